//! `[limits]`, `[breaker]`, `[instances]` and `[grants]`.

use sandmill_domain::{FunctionLimits, Grants, InstanceBudget, InstancePolicy, PluginLimits};

use crate::fixture::{Fixture, refused, refused_below};

const MODEL: &str = "model.path = 'model.onnx'";

#[test]
fn limits_have_their_bounds() {
    let cases = [
        ("timeout_ms = 3600001", "expected an integer from 1 to 3600000, found 3600001"),
        ("body_bytes_max = '2GiB'", "expected a size from 1B to 1GiB, "),
        ("concurrency_max = 0", "expected an integer from 1 to 65536, found 0"),
        ("plugin_time_ms = 0", "expected an integer from 1 to 3600000, found 0"),
        ("plugin_time_ms = '1s'", "expected an integer, found a string"),
        ("plugin_memory_bytes_max = '5GiB'", "expected a size from 64KiB to 4GiB, "),
        ("plugin_memory_bytes_max = '1KiB'", "expected a size from 64KiB to 4GiB, "),
        ("plugin_table_elements_max = -1", "expected an integer from 1 to 10000000, found -1"),
        ("plugin_tensors_max = 0", "expected an integer from 1 to 65536, found 0"),
        ("plugin_tensor_bytes_max = 0", "expected a size from 1B to 4GiB, "),
        ("plugin_output_bytes_max = 0", "expected a size from 1B to 4GiB, "),
        ("plugin_header_bytes_max = '2MiB'", "expected a size from 1B to 1MiB, "),
        ("plugin_log_lines_max = 1000001", "expected an integer from 0 to 1000000, found 1000001"),
        ("plugin_log_bytes_max = '2GiB'", "expected a size from 0 to 1GiB, "),
        ("plugin_host_calls_max = 0", "expected an integer from 1 to 1000000000, found 0"),
        ("plugin_init_time_ms = 3600001", "expected an integer from 1 to 3600000, found 3600001"),
        ("plugin_snapshot_bytes_max = 0", "expected a size from 1B to 4GiB, "),
        ("plugin_fuel = 1", "unknown key; there are timeout_ms, body_bytes_max, "),
    ];
    for (line, expected) in cases {
        let key = line.split(' ').next().expect("a key");
        refused_below(MODEL, &format!("limits.{line}"), &format!("limits.{key}: {expected}"));
    }
    for good in
        ["timeout_ms = 3600000", "plugin_memory_bytes_max = '4GiB'", "body_bytes_max = '1GiB'", "plugin_log_bytes_max = 0"]
    {
        assert!(Fixture::new(format!("{MODEL}\nlimits.{good}")).read().is_ok(), "{good}");
    }
}

#[test]
fn every_limit_of_a_plugin_has_the_key_that_the_host_names() {
    let most = PluginLimits {
        time: std::time::Duration::from_millis(3_600_000),
        memory_bytes_max: 4 << 30,
        table_elements_max: 10_000_000,
        tensors_max: 65_536,
        tensor_bytes_max: 4 << 30,
        output_bytes_max: 4 << 30,
        header_bytes_max: 1 << 20,
        log_lines_max: 1_000_000,
        log_bytes_max: 1 << 30,
        host_calls_max: 1_000_000_000,
        init_time: std::time::Duration::from_millis(3_600_000),
        snapshot_bytes_max: 4 << 30,
    };
    let keys = most.beyond(&PluginLimits::host_default());
    let lines: String = keys.iter().map(|(key, asked, _)| format!("{key} = {asked}\n")).collect();
    let limits = Fixture::new(format!("{MODEL}\n[limits]\n{lines}")).read().expect("good").limits;
    assert_eq!((keys.len(), limits), (12, FunctionLimits { plugin: most, ..FunctionLimits::default() }));
}

#[test]
fn a_breaker_has_its_bounds() {
    let cases = [
        ("failures_max = 0", "expected an integer from 1 to 1000000, found 0"),
        ("failures_max = 1000001", "expected an integer from 1 to 1000000, found 1000001"),
        ("open_ms = 0", "expected an integer from 1 to 3600000, found 0"),
        ("open_ms = 3600001", "expected an integer from 1 to 3600000, found 3600001"),
        ("open = 1", "unknown key; there are failures_max, open_ms"),
    ];
    for (line, expected) in cases {
        let key = line.split(' ').next().expect("a key");
        refused_below(MODEL, &format!("breaker.{line}"), &format!("breaker.{key}: {expected}"));
    }
    refused_below(MODEL, "breaker = false", "breaker: expected a table, found a boolean");
}

#[test]
fn instances_end_with_their_request_or_are_reused() {
    let default = InstanceBudget::default();
    for (lines, expected) in [
        ("", InstancePolicy::Fresh),
        ("policy = 'fresh'", InstancePolicy::Fresh),
        ("policy = 'reuse'", InstancePolicy::Reuse(default)),
        ("policy = 'reuse'\nrequests_max = 1", InstancePolicy::Reuse(InstanceBudget { requests_max: 1, ..default })),
        ("policy = 'reuse'\njitter_percent = 50", InstancePolicy::Reuse(InstanceBudget { jitter_percent: 50, ..default })),
    ] {
        assert_eq!(Fixture::new(format!("{MODEL}\n[instances]\n{lines}")).read().expect("good").instances, expected);
    }
}

#[test]
fn instances_have_their_bounds() {
    let fresh = "only instances of `policy = \"reuse\"` have a budget";
    let cases = [
        ("instances = 'reuse'", "instances: expected a table, found a string"),
        ("instances.policy = 'pooled'", "instances.policy: expected one of fresh, reuse, found \"pooled\""),
        ("instances.policy = true", "instances.policy: expected a string, found a boolean"),
        ("instances.reuse = 1", "instances.reuse: unknown key; there are policy, requests_max, seconds_max, jitter_percent"),
        ("instances = { policy = 'reuse', requests_max = 0 }", "instances.requests_max: expected an integer from 1 to "),
        ("instances = { policy = 'reuse', seconds_max = 0 }", "instances.seconds_max: expected an integer from 1 to "),
        ("instances = { policy = 'reuse', seconds_max = 31536001 }", "instances.seconds_max: expected an integer from 1 to "),
        ("instances = { policy = 'reuse', jitter_percent = 51 }", "instances.jitter_percent: expected an integer from 0 to 50, "),
        ("instances = { policy = 'x', jitter_percent = 1 }", "instances.policy: expected one of fresh, reuse, found \"x\""),
    ];
    for (line, expected) in cases {
        refused_below(MODEL, line, expected);
    }
    for policy in ["", "policy = 'fresh'"] {
        refused(
            &format!("{MODEL}\n[instances]\n{policy}\nrequests_max = 1\nseconds_max = 1\njitter_percent = 'x'"),
            [
                format!("4: instances.requests_max: {fresh}"),
                format!("5: instances.seconds_max: {fresh}"),
                "6: instances.jitter_percent: expected an integer, found a string".to_owned(),
                format!("6: instances.jitter_percent: {fresh}"),
            ],
        );
    }
}

#[test]
fn grants_are_given_by_name() {
    let cases = [
        ("grants = ['wall_clock']", "grants: expected a table, found an array"),
        ("grants.wall_clock = 1", "grants.wall_clock: expected a boolean, found an integer"),
        ("grants.sockets = true", "grants.sockets: unknown key; there are wall_clock, monotonic_clock, randomness, "),
        ("grants.wallclock = true", "grants.wallclock: unknown key, did you mean `wall_clock`?"),
        ("grants.http = 'a.b'", "grants.http: expected an array, found a string"),
        ("grants.http = [80]", "grants.http: expected a string, found an integer"),
        ("grants.http = ['a.b', 'https://a.b']", "grants.http: `https://a.b` is no host: expected a name or an address, "),
        ("grants.http = ['a.b:0']", "grants.http: `a.b:0` is no host: "),
        ("grants.environment = ['A=b']", "grants.environment: expected a table, found an array"),
        ("grants.environment.A = 1", "grants.environment.A: expected a string, found an integer"),
        ("grants.environment.'A=' = 'b'", "grants.environment.\"A=\": expected the name of an environment variable: "),
        ("grants.environment.'' = 'b'", "grants.environment.\"\": expected the name of an environment variable: "),
        ("grants.environment.\"a\\u0000\" = 'b'", "grants.environment.\"a\\0\": expected the name of an environment variable: "),
        ("grants.environment.A = \"\\u0000\"", "grants.environment.A: expected a text without NUL"),
        ("grants.asset_files = true", "grants.asset_files: there are no `assets` to give"),
        ("assets = []\ngrants.asset_files = true", "grants.asset_files: there are no `assets` to give"),
    ];
    for (line, expected) in cases {
        let at = format!("digits/function.toml:{}: {expected}", 1 + line.lines().count());
        let told = Fixture::new(format!("{MODEL}\n{line}")).refusal();
        assert!(told.len() == 1 && told[0].starts_with(&at), "{told:?} is not {at:?}");
    }
    // The assets are refused already, not missing.
    refused_below(MODEL, "assets = [1]\ngrants.asset_files = true", "assets: expected a string, found an integer");
    assert!(Fixture::new(format!("{MODEL}\ngrants.asset_files = false")).read().is_ok());
}

#[test]
fn grants_are_counted() {
    let origins = |count| (0..count).map(|at| format!("'h{at}:443'")).collect::<Vec<_>>().join(", ");
    let variables = |count| (0..count).map(|at| format!("V{at} = ''\n")).collect::<String>();
    let manifest = |http, environment| format!("{MODEL}\n[grants]\nhttp = [{http}]\n[grants.environment]\n{environment}");
    let grants = Fixture::new(manifest(origins(32), variables(64))).read().expect("good").grants;
    assert_eq!((grants.http.len(), grants.environment.len()), (32, 64));
    refused(
        &manifest(origins(33), variables(65)),
        ["3: grants.http: expected at most 32 hosts, found 33", "4: grants.environment: expected at most 64 variables, found 65"],
    );
}

#[test]
fn the_documented_keys_and_defaults_are_the_real_ones() {
    let text = include_str!("../../../../docs/FUNCTIONS.md");
    let (_, rest) = text.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    // What only stands there to be shown: digests, files, tables that exclude one another.
    let told = Fixture::new(example).refusal();
    let unknown: Vec<_> = told.iter().filter(|line| line.contains("unknown key")).collect();
    assert!(unknown.is_empty(), "{unknown:?}");

    let cut = |table: &str| example.split_once(&format!("[{table}]")).expect("given").1.split("\n[").next().expect("some");
    let (limits, instances, grants) = (cut("limits"), cut("instances").replace("\"fresh\"", "\"reuse\""), cut("grants"));
    let breaker = cut("breaker");
    assert!(["failures_max", "open_ms"].iter().all(|key| breaker.contains(key)), "{breaker}");
    let manifest =
        format!("model.path = 'model.onnx'\n[limits]{limits}\n[breaker]{breaker}\n[instances]{instances}\n[grants]{grants}");
    let function = Fixture::new(manifest).read().expect("good");
    assert_eq!((function.limits, function.grants), (FunctionLimits::default(), Grants::default()));
    assert_eq!(function.instances, InstancePolicy::Reuse(InstanceBudget::default()));
    for key in PluginLimits::host_default().beyond(&FunctionLimits::default().plugin).iter().map(|limit| limit.0) {
        assert!(limits.contains(key), "{key}");
    }
}
