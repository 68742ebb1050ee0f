//! The events of the crate that an operator has to know, in the log of the gateway.

use std::{
    fmt::{self, Write},
    sync::Weak,
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::log::Log;

/// Writes events of the crate to the log. Those of single backends are left out, since an outage has many; so are those of
/// the file, which the gateway reports itself.
///
/// Holds the log weakly: it ends with the gateway, and the subscriber with the process.
pub(crate) struct Events(pub(crate) Weak<Log>);

const LEFT_OUT: [&str; 6] = [
    "fleet changed",
    "circuit changed state",
    "outlier changed",
    "configuration applied",
    "configuration applied in part",
    "configuration refused",
];

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "tower_fleet" && *metadata.level() <= Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        if let Some(log) = self.0.upgrade().filter(|_| !LEFT_OUT.contains(&line.message.as_str())) {
            log.line(format_args!("{}{}", line.message, line.fields));
        }
    }

    // There are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text: its message, and ` name=value` for each field.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
