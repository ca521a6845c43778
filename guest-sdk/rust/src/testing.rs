//! A stand-in for the host, so that a plugin's tests run natively: settings, models and a log, for one thread. Its models are
//! closures, and nothing is checked against a signature.

use std::cell::RefCell;
use std::rc::Rc;

use crate::log::Level;
use crate::model::ModelSignature;
use crate::models::{self, Call, ErrorKind};
use crate::{Asset, Init, Request, RequestHead, Tensor};

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

type Run = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, models::Error>;

#[derive(Default)]
struct Model {
    name: String,
    signature: Option<ModelSignature>,
    metadata: Vec<(String, String)>,
    run: Option<Rc<Run>>,
}

impl Host {
    /// The same, with one more setting.
    #[must_use]
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// The same, with one more model, or with this said of a model that is there.
    #[must_use]
    pub fn model(mut self, name: &str, signature: ModelSignature, metadata: &[(&str, &str)]) -> Self {
        let model = self.entry(name);
        model.signature = Some(signature);
        model.metadata = pairs(metadata);
        self
    }

    /// The same, with one more model that a handler can run, or with this to run for a model that is there: from the inputs
    /// as the handler gives them to the outputs. It may itself log, and read settings.
    #[must_use]
    pub fn infer(mut self, name: &str, run: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, models::Error> + 'static) -> Self {
        self.entry(name).run = Some(Rc::new(run));
        self
    }

    fn entry(&mut self, name: &str) -> &mut Model {
        let position = self.models.iter().position(|model| model.name == name).unwrap_or_else(|| {
            self.models.push(Model { name: name.into(), ..Model::default() });
            self.models.len() - 1
        });
        &mut self.models[position]
    }

    fn names(&self) -> Vec<String> {
        self.models.iter().map(|model| model.name.clone()).collect()
    }

    fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
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

/// What `init` starts from: settings and assets, as pairs of name and content.
pub fn init(config: &[(&str, &str)], assets: &[(&str, &[u8])]) -> Init {
    let asset = |(name, data): &(&str, &[u8])| Asset { name: (*name).into(), data: data.to_vec() };
    Init { config: pairs(config), assets: assets.iter().map(asset).collect() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
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
    HOST.with_borrow(Host::names)
}

pub(crate) fn signature(name: &str) -> Option<ModelSignature> {
    HOST.with_borrow(|host| host.find(name)?.signature.clone())
}

pub(crate) fn metadata(name: &str) -> Vec<(String, String)> {
    HOST.with_borrow(|host| host.find(name).map(|model| model.metadata.clone())).unwrap_or_default()
}

pub(crate) fn infer(call: Call<'_>) -> Result<Vec<Tensor>, models::Error> {
    runner(call.model)?(call.inputs)
}

pub(crate) fn infer_many(calls: &[Call<'_>]) -> Vec<Result<Vec<Tensor>, models::Error>> {
    calls.iter().copied().map(infer).collect()
}

/// Taken out of the host, which the model may want to borrow while it runs.
fn runner(name: &str) -> Result<Rc<Run>, models::Error> {
    let refused = |kind, message| Err(models::Error { kind, message });
    HOST.with_borrow(|host| match host.find(name) {
        Some(Model { run: Some(run), .. }) => Ok(Rc::clone(run)),
        Some(_) => refused(ErrorKind::Failed, format!("the test has nothing to run for the model `{name}`")),
        None => refused(ErrorKind::UnknownModel, format!("there is no model `{name}` among {:?}", host.names())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Axis, TensorSpec};
    use crate::{Dtype, Error, config, log, model};

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
    fn models_are_told_apart_by_name() {
        let signature = ModelSignature { inputs: vec![], outputs: vec![] };
        let host = Host::default().infer("encoder", |_| Ok(vec![])).model("decoder", signature.clone(), &[("v", "2")]);
        let (seen, _) = host.run(|| {
            let of = |name| (model::signature_of(name), model::metadata_of(name).len());
            (model::names(), of("encoder"), of("decoder"), of("other"))
        });
        assert_eq!(seen, (vec!["encoder".into(), "decoder".into()], (None, 0), (Some(signature), 1), (None, 0)));
    }

    #[test]
    fn a_handler_runs_the_tests_models() {
        let double = |inputs: &[Tensor]| {
            log::info("doubled");
            let values: Vec<_> = inputs[0].as_f32().unwrap().iter().map(|value| value * 2.0).collect();
            Ok(vec![Tensor::f32("y", [values.len()], values).unwrap()])
        };
        let busy = || models::Error { kind: ErrorKind::Overloaded, message: "the queue is full".into() };
        let host = Host::default().infer("double", double).infer("busy", move |_| Err(busy()));
        let x = [Tensor::f32("x", [2], [1.0, 2.5]).unwrap()];
        let y = vec![Tensor::f32("y", [2], [2.0, 5.0]).unwrap()];
        let (seen, lines) = host.run(|| {
            assert_eq!(models::infer("double", &x), Ok(y.clone()));
            models::infer_many(&["busy", "double", "none"].map(|model| Call { model, inputs: &x }))
        });
        let unknown = r#"there is no model `none` among ["double", "busy"]"#.into();
        assert_eq!(seen, [Err(busy()), Ok(y), Err(models::Error { kind: ErrorKind::UnknownModel, message: unknown })]);
        assert_eq!(lines.len(), 2);
        assert_eq!(Error::from(busy()), Error::internal("the queue is full"));
    }

    #[test]
    fn a_model_that_only_has_a_signature_does_not_run() {
        let host = Host::default().model("x", ModelSignature { inputs: vec![], outputs: vec![] }, &[]);
        let (result, _) = host.run(|| models::infer("x", &[]));
        assert_eq!(result.unwrap_err().to_string(), "the test has nothing to run for the model `x`");
    }

    #[test]
    fn without_a_host_there_is_nothing_to_see() {
        assert_eq!((config::all(), model::signature(), model::metadata()), (vec![], None, vec![]));
    }
}
