//! What the control listener tells of a function's models, as JSON. Knows no routes.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use sandmill_domain::{ModelState, Priority, Reply};
use serde::Serialize;

use crate::metadata::json;

#[derive(Serialize)]
struct Models<'a> {
    function: &'a str,
    models: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    stage: &'static str,
    /// Null if it works.
    ailing: Option<&'a str>,
    served: u64,
    age_seconds: f64,
    memory_bytes: usize,
    warm_memory_bytes: usize,
    /// By priority.
    waiting: BTreeMap<&'static str, usize>,
    running: usize,
    abandoned: usize,
    /// Null if it was not measured.
    profile: Option<Profile<'a>>,
}

#[derive(Serialize)]
struct Profile<'a> {
    sizes: Vec<Size>,
    batch_rows_max: usize,
    /// Null if they do.
    why_no_batches: Option<&'a str>,
    inline_bytes_max: usize,
    why_not_inline: Option<&'a str>,
    /// Buckets by axis.
    padded: BTreeMap<&'a str, &'a [i64]>,
    why_not_padded: Option<&'a str>,
}

#[derive(Serialize)]
struct Size {
    rows: usize,
    bytes: usize,
    seconds: f64,
}

#[derive(Serialize)]
struct Recycling<'a> {
    recycling: &'a str,
}

/// `GET /functions/{function}/models`: where each stands, and what was measured of it.
pub fn models(function: &str, states: &[(String, ModelState)]) -> Reply {
    let models = states.iter().map(|(name, state)| model(name, state)).collect();
    json(StatusCode::OK, &Models { function, models })
}

/// `POST /functions/{function}/models/{model}/recycle`: 202, it will be done.
pub fn recycling(model: &str) -> Reply {
    json(StatusCode::ACCEPTED, &Recycling { recycling: model })
}

fn model<'a>(name: &'a str, state: &'a ModelState) -> Model<'a> {
    let ModelState { served, memory_bytes, warm_memory_bytes, running, abandoned, .. } = *state;
    let profile = state.profile.as_ref().map(|profile| Profile {
        sizes: profile
            .sizes
            .iter()
            .map(|size| Size { rows: size.rows, bytes: size.bytes, seconds: seconds(size.time) })
            .collect(),
        batch_rows_max: *profile.batches.as_ref().unwrap_or(&1),
        why_no_batches: profile.batches.as_ref().err().map(String::as_str),
        inline_bytes_max: *profile.inline.as_ref().unwrap_or(&0),
        why_not_inline: profile.inline.as_ref().err().map(String::as_str),
        padded: profile.padding.iter().flatten().map(|(axis, buckets)| (axis.as_str(), buckets.as_slice())).collect(),
        why_not_padded: profile.padding.as_ref().err().map(String::as_str),
    });
    Model {
        name,
        stage: state.stage.as_str(),
        ailing: state.ailing.as_deref(),
        served,
        age_seconds: seconds(state.age),
        memory_bytes,
        warm_memory_bytes,
        waiting: Priority::ALL.iter().map(|priority| priority.as_str()).zip(state.waiting).collect(),
        running,
        abandoned,
        profile,
    }
}

/// To the microsecond: more digits only look precise.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use sandmill_domain::{BatchSize, ModelProfile, ModelStage};

    use super::*;

    #[test]
    fn an_operator_sees_where_models_stand() {
        let sizes = vec![BatchSize { rows: 1, bytes: 256, time: Duration::from_micros(58) }];
        let profile = ModelProfile {
            sizes,
            batches: Ok(16),
            inline: Err("it has loops".into()),
            padding: Ok(vec![("seq".into(), vec![8, 16])]),
        };
        let (stage, ailing) = (ModelStage::Loading, Some("it has no session at the moment".to_owned()));
        let state = ModelState { stage, ailing, served: 7, profile: Some(profile), ..ModelState::default() };
        let reply = models("digits", &[("model".into(), state)]);
        assert_eq!(
            str::from_utf8(&reply.body).unwrap(),
            concat!(
                r#"{"function":"digits","models":[{"name":"model","stage":"loading","ailing":"it has no session at the moment","#,
                r#""served":7,"age_seconds":0.0,"memory_bytes":0,"warm_memory_bytes":0,"waiting":{"high":0,"low":0,"normal":0},"running":0,"abandoned":0,"#,
                r#""profile":{"sizes":[{"rows":1,"bytes":256,"seconds":0.000058}],"batch_rows_max":16,"why_no_batches":null,"#,
                r#""inline_bytes_max":0,"why_not_inline":"it has loops","padded":{"seq":[8,16]},"why_not_padded":null}}]}"#
            )
        );
        let reply = recycling("model");
        assert_eq!((reply.status.as_u16(), &*reply.body), (202, &br#"{"recycling":"model"}"#[..]));
    }
}
