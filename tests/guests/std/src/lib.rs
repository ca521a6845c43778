//! A guest that uses what Rust's standard library has of a system. Built for wasm32-wasip2 it imports WASI, which the host
//! answers with stand-ins; the path of the request says what to use.
#![allow(clippy::needless_pass_by_value, reason = "what the host hands over is the plugin's own")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "where it goes is what is tested")]

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use sandmill_plugin::{Error, Request, Response};

fn preprocess(request: Request) -> Result<Response, Error> {
    let answer = match request.path.as_str() {
        // Its seed comes from `insecure-seed`.
        "/map" => HashMap::from([("a", 1), ("b", 2)])["b"].to_string(),
        "/print" => {
            println!("a line on standard output");
            eprintln!("a line on standard error");
            "printed".to_owned()
        }
        "/environment" => format!("{} {}", std::env::vars().count(), std::env::args().count()),
        "/files" => format!("{} {}", std::fs::read_dir("/").is_err(), std::fs::write("/x", "x").is_err()),
        "/monotonic" => format!("{:?}", Instant::now()),
        "/wall" => format!("{:?}", SystemTime::now()),
        "/random" => random(),
        "/variable" => std::env::var("LANG").unwrap_or_default(),
        "/assets" => {
            let read = std::fs::read_to_string("/assets/sub/labels.txt").unwrap_or_else(|error| error.to_string());
            let outside = std::fs::read("/assets/../etc/passwd").is_err() && std::fs::read("/etc/passwd").is_err();
            let written = std::fs::write("/assets/sub/labels.txt", "x").is_ok() || std::fs::write("/assets/new", "x").is_ok();
            let deleted = std::fs::remove_file("/assets/sub/labels.txt").is_ok();
            format!("{} {read} {outside} {written} {deleted}", names("/assets"))
        }
        "/exit" => std::process::exit(0),
        "/panic" => panic!("a plugin's bug"),
        other => return Err(Error::not_found(other)),
    };
    Ok(Response::text(answer))
}

fn names(folder: &str) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
}

#[cfg(target_os = "wasi")]
fn random() -> String {
    wasip2::random::random::get_random_u64().to_string()
}

/// Natively nothing is granted.
#[cfg(not(target_os = "wasi"))]
fn random() -> String {
    String::new()
}

sandmill_plugin::export!(preprocess = preprocess);
