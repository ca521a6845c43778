//! Turns Magika's tables in `data/` into Rust constants, so that no request pays for parsing them. Knows their format and
//! nothing of how they are used.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::{env, fs, path::Path};

use serde::Deserialize;

const CONFIG: &str = "data/config.min.json";
const CONTENT_TYPES: &str = "data/content_types_kb.min.json";

/// What the rules name by themselves, whether or not the model knows it.
const NAMED: [&str; 3] = ["empty", "txt", "unknown"];

#[derive(Deserialize)]
struct Config {
    beg_size: usize,
    mid_size: usize,
    end_size: usize,
    use_inputs_at_offsets: bool,
    block_size: usize,
    padding_token: i32,
    min_file_size_for_dl: usize,
    medium_confidence_threshold: f64,
    target_labels_space: Vec<String>,
    thresholds: BTreeMap<String, f64>,
    overwrite_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ContentType {
    mime_type: Option<String>,
    group: Option<String>,
    description: Option<String>,
    extensions: Vec<String>,
    is_text: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=data");
    let config: Config = serde_json::from_str(&fs::read_to_string(CONFIG)?)?;
    let content_types: BTreeMap<String, ContentType> = serde_json::from_str(&fs::read_to_string(CONTENT_TYPES)?)?;
    if config.mid_size != 0 || config.use_inputs_at_offsets {
        return Err("the model wants features that this plugin does not extract".into());
    }
    let labels = labels(&config);
    let mut source = String::new();
    sizes(&mut source, &config)?;
    types(&mut source, &labels, &content_types)?;
    classes(&mut source, &labels, &config)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("tables.rs"), source)?;
    Ok(())
}

/// Every label that can be answered, sorted; its position is how the tables refer to it.
fn labels(config: &Config) -> Vec<&str> {
    let mut labels: Vec<_> = NAMED.into_iter().chain(config.target_labels_space.iter().map(String::as_str)).collect();
    labels.extend(config.overwrite_map.values().map(String::as_str));
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn sizes(out: &mut String, config: &Config) -> std::fmt::Result {
    writeln!(out, "/// Tokens from the start of the file.\npub(crate) const BEGIN_SIZE: usize = {};", config.beg_size)?;
    writeln!(out, "/// Tokens from the end of the file.\npub(crate) const END_SIZE: usize = {};", config.end_size)?;
    writeln!(out, "/// Bytes looked at, at either end.\npub(crate) const BLOCK_SIZE: usize = {};", config.block_size)?;
    writeln!(out, "/// Stands where the file has no byte.\npub(crate) const PADDING: i32 = {};", config.padding_token)?;
    writeln!(
        out,
        "/// Fewer bytes are not shown to the model.\npub(crate) const SIZE_MIN: usize = {};",
        config.min_file_size_for_dl
    )
}

/// Missing values default as in `Magika._load_content_types_kb`.
fn types(out: &mut String, labels: &[&str], known: &BTreeMap<String, ContentType>) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "/// Every type that can be answered, by label.\npub(crate) static TYPES: [ContentType; {}] = [",
        labels.len()
    )?;
    for label in labels {
        let kind = known.get(*label).ok_or_else(|| format!("{CONTENT_TYPES} lacks {label}"))?;
        let mime_type = kind.mime_type.as_deref().unwrap_or(if kind.is_text { "text/plain" } else { "application/octet-stream" });
        let description = kind.description.as_deref().unwrap_or(label);
        let group = kind.group.as_deref().unwrap_or("unknown");
        writeln!(
            out,
            "ContentType {{ label: {label:?}, description: {description:?}, mime_type: {mime_type:?}, group: {group:?}, \
             extensions: &{:?}, is_text: {} }},",
            kind.extensions, kind.is_text
        )?;
    }
    writeln!(out, "];")?;
    for label in NAMED {
        let constant = label.to_uppercase();
        writeln!(
            out,
            "/// The type `{label}`.\npub(crate) const {constant}: &ContentType = &TYPES[{}];",
            position(labels, label)?
        )?;
    }
    Ok(())
}

fn classes(out: &mut String, labels: &[&str], config: &Config) -> Result<(), Box<dyn Error>> {
    let classes = &config.target_labels_space;
    writeln!(out, "/// What each of the model's outputs means.\npub(crate) static CLASSES: [Class; {}] = [", classes.len())?;
    for class in classes {
        let answer = config.overwrite_map.get(class).unwrap_or(class);
        let score_min = config.thresholds.get(class).unwrap_or(&config.medium_confidence_threshold);
        writeln!(
            out,
            "Class {{ predicted: &TYPES[{}], answered: &TYPES[{}], score_min: {score_min:?} }},",
            position(labels, class)?,
            position(labels, answer)?
        )?;
    }
    Ok(writeln!(out, "];")?)
}

fn position(labels: &[&str], label: &str) -> Result<usize, String> {
    labels.binary_search(&label).map_err(|_| format!("{CONFIG} does not know {label}"))
}
