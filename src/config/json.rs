//! The section `[json]`, and the key `json` of a backend.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, ValueError, units::Size};
use crate::{
    body::ReplayMemory,
    setting::InvalidSetting,
    upstream::json::{JsonEditLayer, ResponseModel, Unedited, Unmapped},
};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Section {
    set: BTreeMap<String, Value>,
    default: BTreeMap<String, Value>,
    remove: Vec<String>,
    map: BTreeMap<String, BTreeMap<String, String>>,
    unmapped: Option<Others>,
    bound: Option<Size>,
    memory: Option<Size>,
    otherwise: Option<Rule>,
    response_model: Option<Model>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Others {
    Keep,
    Refuse,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Refuse,
    Send,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Model {
    Served,
    AsAsked,
}

impl Section {
    /// Makes the layer. `path` is that of the section, which may belong to a backend.
    pub(super) fn layer(self, path: &str, backend: Option<&str>) -> Result<JsonEditLayer, ConfigError> {
        let refused = |error: InvalidSetting| {
            let value = ValueError::new(error.value(), error.reason());
            value.at(format!("{path}.{}", error.field()), backend)
        };
        let mut layer = JsonEditLayer::new();
        for (field, value) in self.set {
            layer = layer.set(&field, value).map_err(refused)?;
        }
        for field in &self.remove {
            layer = layer.remove(field).map_err(refused)?;
        }
        for (field, value) in self.default {
            layer = layer.set_default(&field, value).map_err(refused)?;
        }
        for (field, names) in self.map {
            layer = layer.map(&field, names).map_err(refused)?;
        }
        if let Some(Size(bytes)) = self.bound {
            if bytes == 0 {
                let error = ValueError::new(bytes, "must be at least 1: no body would be edited");
                return Err(error.at(format!("{path}.bound"), backend));
            }
            layer = layer.bound(bytes);
        }
        if let Some(Size(bytes)) = self.memory {
            if bytes < self.bound.map_or(1, |Size(bound)| bound) {
                let error = ValueError::new(bytes, "must be at least the bound of one body");
                return Err(error.at(format!("{path}.memory"), backend));
            }
            layer = layer.memory(ReplayMemory::new(bytes));
        }
        if let Some(others) = self.unmapped {
            layer = layer.unmapped(match others {
                Others::Keep => Unmapped::Keep,
                Others::Refuse => Unmapped::Refuse,
            });
        }
        if let Some(rule) = self.otherwise {
            layer = layer.otherwise(match rule {
                Rule::Refuse => Unedited::Refuse,
                Rule::Send => Unedited::Forward,
            });
        }
        if let Some(model) = self.response_model {
            layer = layer.response_model(match model {
                Model::Served => ResponseModel::Served,
                Model::AsAsked => ResponseModel::AsAsked,
            });
        }
        Ok(layer)
    }
}
