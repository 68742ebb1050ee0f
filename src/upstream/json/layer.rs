//! The layer that edits the JSON bodies of requests.

use std::{fmt, sync::Arc};

use serde_json::Value;
use tower_layer::Layer;

use super::{
    JsonEdit, ResponseModel, Unedited, Unmapped,
    edits::{Change, Edit, Edits, Names, Text},
    path::Path,
    settings::Settings,
};
use crate::{body::ReplayMemory, setting::InvalidSetting};

/// As much as of a body is kept for other attempts by default. Prompts fit, and most images do not.
const DEFAULT_BOUND: usize = 1024 * 1024;

/// A [`Layer`] that edits the JSON bodies of requests to one backend. See [the module](super) for what is edited and what
/// is not.
///
/// The default edits nothing. Two layers are equal if they edit requests in the same way.
///
/// ```
/// # use tower_fleet::{InvalidSetting, upstream::json::{JsonEditLayer, ResponseModel, Unedited}};
/// let edit = JsonEditLayer::new()
///     .set("stream_options.include_usage", true)?
///     .set_default("temperature", 0.2)?
///     .remove("logit_bias")?
///     .map("model", [("fast", "gpt-4o-mini"), ("large", "gpt-4o")])?
///     .bound(16 * 1024 * 1024)
///     .otherwise(Unedited::Forward)
///     .response_model(ResponseModel::AsAsked);
/// # Ok::<_, InvalidSetting>(())
/// ```
///
/// A path is a list of keys with dots between them. In an array, a segment is an index: `messages.0.role`. A dot in a key is
/// written `\.`, and a backslash `\\`.
#[derive(Clone, Default)]
#[must_use = "a layer does nothing until it is given a service"]
pub struct JsonEditLayer {
    pub(super) edits: Edits,
    bound: Option<usize>,
    otherwise: Option<Unedited>,
    unmapped: Option<Unmapped>,
    response_model: Option<ResponseModel>,
    memory: Option<ReplayMemory>,
}

impl JsonEditLayer {
    /// Creates a layer that edits nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a field, in place of the caller's. Objects on the way to it that are missing or `null` are made.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is not valid, or if it is that of another edit, above it or below it.
    pub fn set(self, path: &str, value: impl Into<Value>) -> Result<Self, InvalidSetting> {
        self.add("set", path, Edit::Change(Change::Set(Text::of(value))))
    }

    /// Sets a field that the caller has not set. One that is `null` counts as set. Objects on the way to it that are
    /// missing or `null` are made.
    ///
    /// A default is not mapped: where the field also has a [map](Self::map), it concerns the caller's names only.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    pub fn set_default(self, path: &str, value: impl Into<Value>) -> Result<Self, InvalidSetting> {
        self.add("default", path, Edit::Change(Change::Default(Text::of(value))))
    }

    /// Removes a field, if it is there.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    pub fn remove(self, path: &str) -> Result<Self, InvalidSetting> {
        self.add("remove", path, Edit::Change(Change::Remove))
    }

    /// Replaces names by the ones that this backend knows. What happens to other names is
    /// [a choice](Self::unmapped).
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set). Also if there is no name, if a name is empty, or if one is listed twice.
    pub fn map<A, B>(self, path: &str, names: impl IntoIterator<Item = (A, B)>) -> Result<Self, InvalidSetting>
    where
        A: Into<String>,
        B: Into<String>,
    {
        let invalid = |reason| Err(InvalidSetting::of(PART, "map", format_args!("`{path}`"), reason));
        let mut listed = std::collections::BTreeMap::new();
        for (from, to) in names {
            let (from, to) = (from.into(), to.into());
            if from.is_empty() || to.is_empty() {
                return invalid("must not have an empty name");
            }
            if listed.insert(from, Text::of(to)).is_some() {
                return invalid("must not have a name twice");
            }
        }
        if listed.is_empty() {
            return invalid("must have a name");
        }
        self.add("map", path, Edit::Names(Names { listed, others: None }))
    }

    /// Sets what happens to a name that is not in the [map](Self::map) of its field. Default
    /// [`Unmapped::Keep`].
    pub fn unmapped(mut self, rule: Unmapped) -> Self {
        self.unmapped = Some(rule);
        self
    }

    /// Sets how large a body may be that is edited, in bytes. Default 1 MiB.
    ///
    /// A body is in memory while it is edited, charged to the [memory](Self::memory).
    pub fn bound(mut self, bytes: usize) -> Self {
        self.bound = Some(bytes);
        self
    }

    /// Sets the memory that bodies are charged to while they are edited and sent. A body that does not fit is not edited.
    /// Default [`ReplayMemory::process`].
    pub fn memory(mut self, memory: ReplayMemory) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Sets what happens to a body that cannot be edited. Default [`Unedited::Refuse`].
    pub fn otherwise(mut self, rule: Unedited) -> Self {
        self.otherwise = Some(rule);
        self
    }

    /// Sets which model responses name. Default [`ResponseModel::Served`].
    pub fn response_model(mut self, model: ResponseModel) -> Self {
        self.response_model = Some(model);
        self
    }

    /// Returns this layer with the edits and settings of one for all backends. This one's take precedence: of the others,
    /// those are left out that contradict them.
    pub fn over(mut self, all: &Self) -> Self {
        self.edits.add_all(&all.edits);
        self.bound = self.bound.or(all.bound);
        self.otherwise = self.otherwise.or(all.otherwise);
        self.unmapped = self.unmapped.or(all.unmapped);
        self.response_model = self.response_model.or(all.response_model);
        self.memory = self.memory.or_else(|| all.memory.clone());
        self
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            bound: self.bound.unwrap_or(DEFAULT_BOUND),
            otherwise: self.otherwise.unwrap_or_default(),
            unmapped: self.unmapped.unwrap_or_default(),
            renames: self.response_model == Some(ResponseModel::AsAsked),
            memory: self.memory.clone().unwrap_or_default(),
            edits: self.edits.clone(),
        }
    }

    fn add(mut self, kind: &'static str, path: &str, edit: Edit) -> Result<Self, InvalidSetting> {
        let parsed = Path::parse(path);
        match parsed.and_then(|parsed| self.edits.add(&parsed, edit)) {
            Ok(()) => Ok(self),
            Err(reason) => Err(InvalidSetting::of(PART, kind, format_args!("`{path}`"), reason)),
        }
    }
}

const PART: &str = "json";

impl<S> Layer<S> for JsonEditLayer {
    type Service = JsonEdit<S>;

    fn layer(&self, inner: S) -> JsonEdit<S> {
        JsonEdit::new(inner, Arc::new(self.settings()))
    }
}

/// Memories are equal if their limits are.
impl PartialEq for JsonEditLayer {
    fn eq(&self, other: &Self) -> bool {
        let limit = |layer: &Self| layer.memory.as_ref().map(ReplayMemory::limit);
        let settings = |layer: &Self| (layer.bound, layer.otherwise, layer.unmapped, layer.response_model);
        self.edits == other.edits && settings(self) == settings(other) && limit(self) == limit(other)
    }
}

/// Shows paths, and no value that is set.
impl fmt::Debug for JsonEditLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonEditLayer")
            .field("edits", &self.edits)
            .field("bound", &self.bound)
            .field("otherwise", &self.otherwise)
            .field("unmapped", &self.unmapped)
            .field("response_model", &self.response_model)
            .finish_non_exhaustive()
    }
}
