//! What a function may tell a provider, and what that is in the provider's own words. Knows nothing of the runtime but these words.
//!
//! A function is a tenant's: only what is listed here gets through, and it gets through as what it is said to be. Never a path (engine
//! and timing caches, calibration tables, libraries of plug-ins or for decryption, dumps), for it would be read, written or run by
//! the host; never an address (streams, allocators, models in memory), for it would be followed; never a CUDA graph, for one that is
//! replayed answers with the inputs of the run that it was captured in, which may have been another caller's.
//!
//! <https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html>,
//! <https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html>

use std::fmt;

use sandmill_domain::{Arena, Provider};

use super::{Kind, ProviderError};

/// A key and its value, as the provider knows them.
pub(crate) type Setting = (String, String);

/// What a value can be.
#[derive(Clone, Copy)]
enum Form {
    /// `0` or `1`.
    Switch,
    /// A whole number up to so much.
    UpTo(u32),
    /// One of these.
    Words(&'static [&'static str]),
    /// Names of operators, with commas between them.
    Operators,
}

/// Without `cudnn_conv_use_max_workspace`, which is on by default and more than `memory_bytes_max` bounds.
const CUDA: [(&str, Form); 7] = [
    ("cudnn_conv_algo_search", Form::Words(&["EXHAUSTIVE", "HEURISTIC", "DEFAULT"])),
    ("cudnn_conv1d_pad_to_nc1d", Form::Switch),
    ("enable_skip_layer_norm_strict_mode", Form::Switch),
    ("fuse_conv_bias", Form::Switch),
    ("prefer_nhwc", Form::Switch),
    ("sdpa_kernel", Form::UpTo(255)),
    ("use_tf32", Form::Switch),
];

const TENSORRT: [(&str, Form); 12] = [
    ("trt_auxiliary_streams", Form::UpTo(8)),
    ("trt_bf16_enable", Form::Switch),
    ("trt_build_heuristics_enable", Form::Switch),
    ("trt_builder_optimization_level", Form::UpTo(5)),
    ("trt_context_memory_sharing_enable", Form::Switch),
    ("trt_force_sequential_engine_build", Form::Switch),
    ("trt_int8_enable", Form::Switch),
    ("trt_layer_norm_fp32_fallback", Form::Switch),
    ("trt_max_partition_iterations", Form::UpTo(1000)),
    ("trt_min_subgraph_size", Form::UpTo(1_000_000)),
    ("trt_op_types_to_exclude", Form::Operators),
    ("trt_sparsity_enable", Form::Switch),
];

impl Form {
    /// Without a leading zero or sign: it means the same to every parser.
    fn fits(self, value: &str) -> bool {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match self {
            Self::Switch => matches!(value, "0" | "1"),
            Self::UpTo(max) => value.parse::<u32>().is_ok_and(|number| number <= max && number.to_string() == value),
            Self::Words(words) => words.contains(&value),
            Self::Operators => value.split(',').all(is_name),
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Switch => "`0` or `1`".to_owned(),
            Self::UpTo(max) => format!("a whole number up to {max}"),
            Self::Words(words) => format!("one of {}", words.join(", ")),
            Self::Operators => "operators' names with commas between them".to_owned(),
        }
    }
}

/// All that a provider is told, within what the host gives.
pub(crate) fn settings(provider: &Provider, kind: &Kind<'_>, memory_bytes_max: usize) -> Result<Vec<Setting>, ProviderError> {
    let memory = memory(provider, memory_bytes_max)?;
    match kind {
        Kind::Cpu => {
            refuse(provider, &["device", "memory_bytes_max", "arena", "fp16", "shapes"])?;
            listed(provider, &[])
        }
        Kind::Cuda => {
            refuse(provider, &["fp16", "shapes"])?;
            let mut settings = listed(provider, &CUDA)?;
            settings.push(setting("device_id", provider.device.unwrap_or(0)));
            settings.push(setting("gpu_mem_limit", memory));
            settings.extend(provider.arena.map(|arena| setting("arena_extend_strategy", strategy(arena))));
            Ok(settings)
        }
        Kind::Tensorrt => {
            refuse(provider, &["arena"])?;
            let mut settings = listed(provider, &TENSORRT)?;
            settings.push(setting("device_id", provider.device.unwrap_or(0)));
            settings.push(setting("trt_max_workspace_size", memory));
            settings.push(setting("trt_fp16_enable", u8::from(provider.fp16)));
            settings.extend(shapes(provider)?);
            Ok(settings)
        }
        Kind::Library(library) => {
            refuse(provider, &["memory_bytes_max", "arena", "fp16", "shapes"])?;
            provider.options.iter().map(|(key, value)| declared(provider, &library.options, key, value)).collect()
        }
    }
}

/// Settings that are written and mean nothing to a provider.
fn refuse(provider: &Provider, keys: &[&'static str]) -> Result<(), ProviderError> {
    let is_written = |key: &&&'static str| match **key {
        "device" => provider.device.is_some(),
        "memory_bytes_max" => provider.memory_bytes_max.is_some(),
        "arena" => provider.arena.is_some(),
        "fp16" => provider.fp16,
        _ => provider.shapes.is_some(),
    };
    match keys.iter().find(is_written) {
        Some(key) => Err(ProviderError::Setting { name: provider.name.clone(), key }),
        None => Ok(()),
    }
}

fn memory(provider: &Provider, max: usize) -> Result<usize, ProviderError> {
    let given = provider.memory_bytes_max.unwrap_or(max);
    if given > max { Err(ProviderError::Memory { name: provider.name.clone(), given, max }) } else { Ok(given) }
}

fn listed(provider: &Provider, list: &[(&'static str, Form)]) -> Result<Vec<Setting>, ProviderError> {
    let check = |(key, value): (&String, &String)| {
        let Some((_, form)) = list.iter().find(|(name, _)| name == key) else {
            return Err(unknown(provider, key, list.iter().map(|(name, _)| (*name).to_owned()).collect()));
        };
        if form.fits(value) { Ok((key.clone(), value.clone())) } else { Err(wrong(provider, key, form.expected())) }
    };
    provider.options.iter().map(check).collect()
}

/// An option of a library, if the operator has declared that functions may set it.
fn declared(provider: &Provider, allowed: &[String], key: &str, value: &str) -> Result<Setting, ProviderError> {
    if !allowed.iter().any(|name| name == key) {
        return Err(unknown(provider, key, allowed.to_vec()));
    }
    if !is_plain(value) {
        return Err(wrong(provider, key, "a text without control characters".to_owned()));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `input:1x3x224x224,other:1x8`; what the names and sizes mean is the compiler's to check.
fn shapes(provider: &Provider) -> Result<Vec<Setting>, ProviderError> {
    let Some(shapes) = &provider.shapes else { return Ok(Vec::new()) };
    let is_size = |size: &str| size.parse::<u32>().is_ok_and(|number| number > 0 && number.to_string() == size);
    let is_shape = |text: &str| {
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(name, sizes)| !name.is_empty() && sizes.split('x').all(is_size))
    };
    let keys = [("min", &shapes.min), ("opt", &shapes.opt), ("max", &shapes.max)];
    let check = |(key, text): (&str, &String)| {
        if is_plain(text) && text.split(',').all(is_shape) {
            return Ok((format!("trt_profile_{key}_shapes"), text.clone()));
        }
        Err(wrong(provider, &format!("shapes.{key}"), "shapes such as `input:1x3x224x224,other:1x8`".to_owned()))
    };
    keys.into_iter().map(check).collect()
}

/// Whether a text can be handed over in C, and be read in a log.
fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn strategy(arena: Arena) -> &'static str {
    match arena {
        Arena::NextPowerOfTwo => "kNextPowerOfTwo",
        Arena::SameAsRequested => "kSameAsRequested",
    }
}

fn setting(key: &str, value: impl fmt::Display + Copy) -> Setting {
    (key.to_owned(), value.to_string())
}

fn unknown(provider: &Provider, key: &str, known: Vec<String>) -> ProviderError {
    ProviderError::Option { name: provider.name.clone(), key: key.to_owned(), known }
}

fn wrong(provider: &Provider, key: &str, expected: String) -> ProviderError {
    ProviderError::Value { name: provider.name.clone(), key: key.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use sandmill_domain::ProfileShapes;

    use super::*;
    use crate::providers::Library;

    const MAX: usize = 4 << 30;

    fn with(options: &[(&str, &str)]) -> Provider {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Provider { options, ..Provider::named("one") }
    }

    fn told(provider: &Provider, kind: &Kind<'_>) -> Result<Vec<Setting>, String> {
        settings(provider, kind, MAX).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_put_into_the_providers_words() {
        let provider = Provider { device: Some(2), arena: Some(Arena::SameAsRequested), ..with(&[("use_tf32", "1")]) };
        let expected = [
            ("use_tf32", "1"),
            ("device_id", "2"),
            ("gpu_mem_limit", "4294967296"),
            ("arena_extend_strategy", "kSameAsRequested"),
        ];
        assert_eq!(told(&provider, &Kind::Cuda).unwrap(), expected.map(|(key, value)| setting(key, value)));
        let [min, opt, max] = ["a:1x2", "a:8x2", "a:32x2,b[0]:1"].map(str::to_owned);
        let shapes = Some(ProfileShapes { min, opt, max });
        let provider = Provider { fp16: true, memory_bytes_max: Some(1 << 20), shapes, ..with(&[]) };
        let expected = [
            ("device_id", "0"),
            ("trt_max_workspace_size", "1048576"),
            ("trt_fp16_enable", "1"),
            ("trt_profile_min_shapes", "a:1x2"),
            ("trt_profile_opt_shapes", "a:8x2"),
            ("trt_profile_max_shapes", "a:32x2,b[0]:1"),
        ];
        assert_eq!(told(&provider, &Kind::Tensorrt).unwrap(), expected.map(|(key, value)| setting(key, value)));
        assert_eq!(told(&with(&[]), &Kind::Cpu).unwrap(), []);
    }

    /// Every option that ONNX Runtime 1.31 was seen to have and that is a path, an address, a file's name or a way around a bound.
    #[test]
    fn what_would_reach_into_the_host_is_refused() {
        let cuda = [
            "user_compute_stream",
            "has_user_compute_stream",
            "gpu_external_alloc",
            "gpu_external_free",
            "gpu_external_empty_cache",
            "default_memory_arena_cfg",
            "enable_cuda_graph",
            "do_copy_in_default_stream",
            "use_ep_level_unified_stream",
            "cudnn_conv_use_max_workspace",
            "tunable_op_enable",
            "tunable_op_tuning_enable",
            // What has a key of its own is not set twice.
            "device_id",
            "gpu_mem_limit",
            "cuda_mem_limit",
            "arena_extend_strategy",
        ];
        let tensorrt = [
            "user_compute_stream",
            "has_user_compute_stream",
            "trt_engine_cache_enable",
            "trt_engine_cache_path",
            "trt_engine_cache_prefix",
            "trt_timing_cache_enable",
            "trt_timing_cache_path",
            "trt_force_timing_cache",
            "trt_int8_calibration_table_name",
            "trt_int8_use_native_calibration_table",
            "trt_engine_decryption_enable",
            "trt_engine_decryption_lib_path",
            "trt_extra_plugin_lib_paths",
            "trt_onnx_model_folder_path",
            "trt_onnx_bytestream",
            "trt_onnx_bytestream_size",
            "trt_external_data_bytestream",
            "trt_external_data_bytestream_size",
            "trt_weight_stripped_engine_enable",
            "trt_dump_subgraphs",
            "trt_dump_ep_context_model",
            "trt_ep_context_file_path",
            "trt_ep_context_embed_mode",
            "trt_cuda_graph_enable",
            "trt_dla_enable",
            "trt_detailed_build_log",
            "trt_max_workspace_size",
            "trt_fp16_enable",
            "trt_profile_min_shapes",
            "device_id",
        ];
        for (kind, keys) in [(Kind::Cuda, &cuda[..]), (Kind::Tensorrt, &tensorrt[..])] {
            for key in keys {
                let text = told(&with(&[(key, "1")]), &kind).unwrap_err();
                assert!(text.starts_with(&format!("provider `one` takes no option `{key}` of a function: there are ")), "{text}");
            }
        }
    }

    #[test]
    fn values_are_what_they_are_said_to_be() {
        let cases = [
            (Kind::Cuda, "use_tf32", "2"),
            (Kind::Cuda, "use_tf32", "true\0"),
            (Kind::Cuda, "sdpa_kernel", "256"),
            (Kind::Cuda, "sdpa_kernel", "-1"),
            (Kind::Cuda, "sdpa_kernel", "+1"),
            (Kind::Cuda, "sdpa_kernel", "0x10"),
            (Kind::Cuda, "cudnn_conv_algo_search", "../x"),
            (Kind::Tensorrt, "trt_builder_optimization_level", "6"),
            (Kind::Tensorrt, "trt_op_types_to_exclude", "TopK,/etc/passwd"),
            (Kind::Tensorrt, "trt_op_types_to_exclude", "TopK,,Cast"),
        ];
        for (kind, key, value) in cases {
            let text = told(&with(&[(key, value)]), &kind).unwrap_err();
            assert!(text.starts_with(&format!("`{key}` of provider `one` must be ")), "{text}");
        }
        for bad in ["", "x", "x:", ":1", "x:1x", "x:0", "x:-1", "x:1,", "x:1\ny:1", "x:99999999999"] {
            let [min, opt, max] = ["x:1".to_owned(), bad.to_owned(), "x:2".to_owned()];
            let provider = Provider { shapes: Some(ProfileShapes { min, opt, max }), ..with(&[]) };
            let text = told(&provider, &Kind::Tensorrt).unwrap_err();
            assert!(text.starts_with("`shapes.opt` of provider `one` must be shapes such as "), "{text}");
        }
    }

    #[test]
    fn memory_is_within_what_the_host_gives() {
        let asks = |bytes| told(&Provider { memory_bytes_max: Some(bytes), ..with(&[]) }, &Kind::Cuda);
        assert!(asks(MAX).is_ok());
        let text = asks(MAX + 1).unwrap_err();
        assert_eq!(
            text,
            "provider `one` is to have 4294967297 bytes, but the host gives 4294967296 at most (provider_memory_bytes_max)"
        );
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let shapes = || Some(ProfileShapes { min: "x:1".into(), opt: "x:1".into(), max: "x:1".into() });
        let library = Library::default();
        let cases = [
            (Kind::Cpu, Provider { device: Some(0), ..with(&[]) }, "device"),
            (Kind::Cpu, Provider { memory_bytes_max: Some(1), ..with(&[]) }, "memory_bytes_max"),
            (Kind::Cuda, Provider { fp16: true, ..with(&[]) }, "fp16"),
            (Kind::Cuda, Provider { shapes: shapes(), ..with(&[]) }, "shapes"),
            (Kind::Tensorrt, Provider { arena: Some(Arena::NextPowerOfTwo), ..with(&[]) }, "arena"),
            (Kind::Library(&library), Provider { memory_bytes_max: Some(1), ..with(&[]) }, "memory_bytes_max"),
        ];
        for (kind, provider, key) in cases {
            assert_eq!(told(&provider, &kind).unwrap_err(), format!("provider `one` takes no `{key}`"));
        }
    }

    #[test]
    fn a_library_takes_the_options_that_the_operator_has_declared() {
        let library = Library { options: vec!["threads".to_owned()], ..Library::default() };
        let kind = Kind::Library(&library);
        assert_eq!(told(&with(&[("threads", "4")]), &kind).unwrap(), [setting("threads", 4)]);
        assert!(told(&with(&[("threads", "4\0")]), &kind).unwrap_err().contains("must be a text without control characters"));
        assert!(told(&with(&[("backend_path", "/tmp/x.so")]), &kind).unwrap_err().contains("takes no option `backend_path`"));
    }
}
