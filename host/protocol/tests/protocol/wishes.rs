//! Priority and timeout among a request's parameters, as Triton's clients send them.

use std::time::Duration;

use sandmill_domain::{Code, Priority, Wish};

use crate::common::{Wire, pair_model, refuse};

fn with(parameters: &str) -> Wire {
    let input = r#"{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}"#;
    Wire::json(format!(r#"{{"inputs":[{input}],"parameters":{{{parameters}}}}}"#))
}

#[test]
fn parameters_say_how_soon_and_before_whom() {
    let micros = |micros| Some(Duration::from_micros(micros));
    let cases = [
        ("", None, None),
        (r#""priority":0,"timeout":0"#, None, None),
        (r#""priority":null,"timeout":null"#, None, None),
        (r#""priority":1,"timeout":1500"#, Some(Priority::High), micros(1500)),
        (r#""timeout":18446744073709551615,"priority":2"#, Some(Priority::Normal), micros(u64::MAX)),
        (r#""priority":3"#, Some(Priority::Low), None),
    ];
    for (parameters, priority, timeout) in cases {
        let request = with(parameters).decode(&pair_model()).expect("a good request");
        assert_eq!(request.wish, Wish { priority, timeout }, "{parameters}");
    }
}

#[test]
fn other_values_are_refused_with_what_is_allowed() {
    for bad in ["4", "-1", "1.0", "1e0", "\"high\"", "true", "[1]", "99999999999999999999", "NaN"] {
        let priority = "parameter `priority` must be 1 for high, 2 for normal, 3 for low, or 0";
        refuse(&pair_model(), &with(&format!(r#""priority":{bad}"#)), Code::InvalidInput, priority);
        if bad != "4" {
            let timeout = "parameter `timeout` must be a whole number of microseconds, or 0 for none";
            refuse(&pair_model(), &with(&format!(r#""timeout":{bad}"#)), Code::InvalidInput, timeout);
        }
    }
    refuse(&pair_model(), &with(r#""priority":1,"priority":1"#), Code::InvalidInput, "`priority` is given twice");
}
