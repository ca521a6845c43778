//! A stand-in for the host, so that a plugin's tests run natively: settings, models and a log, for one thread.

use std::cell::RefCell;

use crate::log::Level;
use crate::model::ModelSignature;
use crate::{Request, RequestHead};

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// What the code under test sees of the host. Outside [`Host::run`] it sees an empty one.
#[derive(Default)]
pub struct Host {
    config: Vec<(String, String)>,
    models: Vec<Model>,
    log: Vec<(Level, String)>,
}

struct Model {
    name: String,
    signature: ModelSignature,
    metadata: Vec<(String, String)>,
}

impl Host {
    /// The same, with one more setting.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// The same, with one more model.
    #[must_use]
    pub fn model(mut self, name: &str, signature: ModelSignature, metadata: &[(&str, &str)]) -> Self {
        let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.models.push(Model { name: name.into(), signature, metadata });
        self
    }

    /// Runs `test` against this host, on this thread; gives its result and what it logged.
    pub fn run<T>(self, test: impl FnOnce() -> T) -> (T, Vec<(Level, String)>) {
        HOST.set(self);
        let result = test();
        (result, HOST.take().log)
    }
}

/// A `POST` without path rest, query or headers.
pub fn request(body: impl Into<Vec<u8>>) -> Request {
    Request { head: head(), body: body.into() }
}

/// The head of [`request`].
pub fn head() -> RequestHead {
    RequestHead { method: "POST".into(), path: String::new(), query: None, headers: Vec::new() }
}

pub(crate) fn get(key: &str) -> Option<String> {
    all().into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

pub(crate) fn all() -> Vec<(String, String)> {
    HOST.with_borrow(|host| host.config.clone())
}

pub(crate) fn log(level: Level, message: &str) {
    HOST.with_borrow_mut(|host| host.log.push((level, message.into())));
}

pub(crate) fn names() -> Vec<String> {
    HOST.with_borrow(|host| host.models.iter().map(|model| model.name.clone()).collect())
}

pub(crate) fn signature(name: &str) -> Option<ModelSignature> {
    HOST.with_borrow(|host| host.models.iter().find(|model| model.name == name).map(|model| model.signature.clone()))
}

pub(crate) fn metadata(name: &str) -> Vec<(String, String)> {
    HOST.with_borrow(|host| host.models.iter().find(|model| model.name == name).map(|model| model.metadata.clone()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Axis, TensorSpec};
    use crate::{Dtype, config, log, model};

    #[test]
    fn the_code_under_test_sees_what_the_test_set_up() {
        let spec = TensorSpec { name: "x".into(), dtype: Dtype::Fp32, shape: vec![Axis::Dynamic(32), Axis::Fixed(64)] };
        let signature = ModelSignature { inputs: vec![spec], outputs: vec![] };
        let host = Host::default().config("top", "3").model("digits", signature.clone(), &[("character", "0123")]);
        let (seen, lines) = host.run(|| {
            log::warn(format_args!("top is {}", config::get("top").unwrap()));
            (config::get("bottom"), model::signature(), model::metadata())
        });
        assert_eq!(seen, (None, Some(signature), vec![("character".into(), "0123".into())]));
        assert_eq!(lines, [(Level::Warn, "top is 3".into())]);
    }

    #[test]
    fn without_a_host_there_is_nothing_to_see() {
        assert_eq!((config::all(), model::signature(), model::metadata()), (vec![], None, vec![]));
    }
}
