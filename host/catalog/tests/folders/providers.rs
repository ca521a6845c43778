//! `providers`, `fallback` and `optimization` of a model: what they say, not whether a host has them.

use sandmill_catalog::ModelSpec;
use sandmill_domain::{Arena, Optimization, ProfileShapes, Provider};

use crate::fixture::{Fixture, refused_below};

const MODEL: &str = "model.path = 'model.onnx'";

fn model(lines: &str) -> ModelSpec {
    let mut function = Fixture::new(format!("{MODEL}\n{lines}")).read().expect("good");
    function.models.remove(0)
}

#[test]
fn a_model_runs_on_the_cpu_unless_it_says_otherwise() {
    let model = model("");
    assert_eq!((model.providers, model.fallback, model.optimization), (vec![Provider::cpu()], false, Optimization::All));
}

#[test]
fn providers_come_in_order_with_their_settings() {
    let lines = "model.fallback = true\nmodel.optimization = 'debug'\nmodel.providers = ['tensorrt', { name = 'cuda', \
                 device = 1, memory_bytes_max = '4GiB', arena = 'same_as_requested', options = { use_tf32 = '1' } }, 'cpu']";
    let model = model(lines);
    let cuda = Provider {
        device: Some(1),
        memory_bytes_max: Some(4 << 30),
        arena: Some(Arena::SameAsRequested),
        options: [("use_tf32".to_owned(), "1".to_owned())].into(),
        ..Provider::named("cuda")
    };
    assert_eq!(model.providers, [Provider::named("tensorrt"), cuda, Provider::cpu()]);
    assert!(model.fallback && model.optimization == Optimization::Debug);
}

#[test]
fn what_is_compiled_has_its_shapes() {
    let model = model(
        "model.providers = [{ name = 'tensorrt', fp16 = true, shapes = { min = 'x:1x64', opt = 'x:8x64', max = 'x:32x64' } }]",
    );
    let [min, opt, max] = ["x:1x64", "x:8x64", "x:32x64"].map(str::to_owned);
    let shapes = Some(ProfileShapes { min, opt, max });
    assert_eq!(model.providers, [Provider { fp16: true, shapes, ..Provider::named("tensorrt") }]);
}

#[test]
fn providers_are_refused_where_they_are_wrong() {
    let name = "model.providers: expected a name of lower-case letters, digits, `-` and `_`, ";
    let many = (0..9).map(|at| format!("'p{at}'")).collect::<Vec<_>>().join(", ");
    let options = (0..33).map(|at| format!("o{at} = '1'")).collect::<Vec<_>>().join(", ");
    let long = "x".repeat(4097);
    let of = |settings: &str| format!("model.providers = [{{ name = 'cuda', {settings} }}]");
    let cases = [
        ("model.providers = []".to_owned(), "model.providers: expected at least one provider"),
        ("model.providers = 'cuda'".to_owned(), "model.providers: expected an array, found a string"),
        ("model.providers = [1]".to_owned(), "model.providers: expected a provider's name, or a table such as `{ name = "),
        ("model.providers = ['/lib/x.so']".to_owned(), name),
        ("model.providers = ['CUDA']".to_owned(), name),
        ("model.providers = ['']".to_owned(), name),
        ("model.providers = ['cuda', { name = 'cuda', device = 1 }]".to_owned(), "model.providers: `cuda` is named twice"),
        (format!("model.providers = [{many}]"), "model.providers: expected at most 8 providers, found 9"),
        ("model.providers = [{ device = 1 }]".to_owned(), "model.providers.name: this key is missing"),
        (of("library = '/lib/x.so'"), "model.providers.library: unknown key; there are name, device, "),
        (of("engine_cache = '/tmp'"), "model.providers.engine_cache: unknown key; there are name, device, "),
        (of("device = -1"), "model.providers.device: expected an integer from 0 to 255, found -1"),
        (of("memory_bytes_max = '1KiB'"), "model.providers.memory_bytes_max: expected a size from 1MiB to 1024GiB, "),
        (of("arena = 'all'"), "model.providers.arena: expected one of next_power_of_two, same_as_requested, found \"all\""),
        (of("fp16 = 1"), "model.providers.fp16: expected a boolean, found an integer"),
        (of("shapes = { min = 'x:1' }"), "model.providers.shapes.opt: this key is missing"),
        (of("options = { use_tf32 = true }"), "model.providers.options.use_tf32: expected a string, found a boolean"),
        (of("options = { \"a/../b\" = '1' }"), "model.providers.options.\"a/../b\": expected an option's name of "),
        (of("options = { a = \"1\\u00002\" }"), "model.providers.options.a: expected a text of at most 4096 bytes, on one line"),
        (of(&format!("options = {{ a = '{long}' }}")), "model.providers.options.a: expected a text of at most 4096 bytes"),
        (of(&format!("options = {{ {options} }}")), "model.providers.options: expected at most 32 options, found 33"),
        ("model.fallback = 'yes'".to_owned(), "model.fallback: expected a boolean, found a string"),
        ("model.optimization = 'none'".to_owned(), "model.optimization: expected one of all, extended, basic, debug, found "),
    ];
    for (line, expected) in cases {
        refused_below(MODEL, &line, expected);
    }
}
