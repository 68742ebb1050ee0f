//! The record of the attempts as the value of a response header.

use std::fmt::{self, Write};

use http::HeaderValue;

use super::Ledger;

impl Ledger {
    /// Returns the ledger as the value of a header, for clients or proxies that may know which backends were attempted.
    ///
    /// It is the text of `Display`, in printable ASCII and cut off after 1,024 bytes. It names backends, outcomes and
    /// times, and neither origins nor anything of the request.
    ///
    /// ```
    /// # use http::Response;
    /// # use tower_fleet::failover::Ledger;
    /// # let mut response = Response::new(());
    /// # response.extensions_mut().insert(Ledger::default());
    /// if let Some(ledger) = response.extensions().get::<Ledger>() {
    ///     let value = ledger.header_value();
    ///     response.headers_mut().insert("x-ledger", value);
    /// }
    /// ```
    pub fn header_value(&self) -> HeaderValue {
        let mut text = Text(Vec::new());
        // It fails where the text is cut off.
        let _ = write!(text, "{self}");
        HeaderValue::try_from(text.0).expect("printable ASCII is a header value")
    }
}

/// Heads of some 8 KiB are accepted everywhere; a ledger takes an eighth of it at most.
const MAX_LEN: usize = 1_024;

/// The end of a text that was cut off.
const CUT: &[u8] = b"...";

/// Printable ASCII of at most `MAX_LEN` bytes.
struct Text(Vec<u8>);

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if self.0.len() == MAX_LEN {
                self.0.truncate(MAX_LEN - CUT.len());
                self.0.extend_from_slice(CUT);
                return Err(fmt::Error);
            }
            self.0.push(match char {
                ' '..='~' => char as u8,
                // Of microseconds.
                'µ' => b'u',
                _ => b'?',
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        failover::{Attempted, Ending},
        name::{BackendId, BackendName},
        outcome::FailureKind,
    };

    fn ledger(names: impl IntoIterator<Item = &'static str>, kind: FailureKind) -> Ledger {
        let mut ledger = Ledger::default();
        for name in names {
            ledger.entries.push(Attempted {
                backend: BackendName::checked(&Arc::from(name)).expect("a name"),
                ending: Ending::Tripped { trigger: "custom", outcome: kind.into() },
                note: None,
                took: Duration::from_micros(12),
                id: BackendId(0),
                position: 0,
            });
        }
        ledger
    }

    // C25
    #[test]
    fn the_value_is_the_text_of_the_ledger_in_ascii() {
        let ledger = ledger(["red", "blue"], FailureKind::Custom("quota überschritten\r\nx: y"));
        let expected = "`red`: quota ?berschritten??x: y (12.0us); `blue`: quota ?berschritten??x: y (12.0us)";
        assert_eq!(ledger.header_value(), expected);
        assert_eq!(Ledger::default().header_value(), "");
    }

    // C25
    #[test]
    fn a_long_ledger_is_cut_off() {
        let value = ledger(["red"; 100], FailureKind::Timeout).header_value();
        assert_eq!(value.len(), MAX_LEN);
        assert!(value.as_bytes().ends_with(CUT), "{value:?}");
        // As long as the bound to the byte, and nothing follows.
        let mut text = Text(Vec::new());
        assert!(text.write_str(&"a".repeat(MAX_LEN)).is_ok() && text.write_str("").is_ok());
        assert_eq!(text.0, [b'a'; MAX_LEN]);
    }
}
