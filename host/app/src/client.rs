//! What is asked of a running server from a terminal, and what a person is told of the answers. Knows the control plane's paths and
//! nothing of how they are answered.

mod access;
mod ask;
mod audit;
mod changes;
mod deploy;
mod functions;
mod hearing;
mod http;
mod keys;
mod logs;
mod profile;
mod profiles;
mod refusal;
mod releases;
mod tenants;
mod terminal;
mod upload;
mod uploads;
mod url;
mod usage;
mod words;

pub(crate) use self::access::{Access, Secret, user_folder};
pub(crate) use self::audit::run as audit;
pub(crate) use self::deploy::run as deploy;
pub(crate) use self::functions::{delete, functions, whoami};
pub(crate) use self::http::{Body, Exchange, Trust, Unreachable, exchange};
pub(crate) use self::keys::run as keys;
pub(crate) use self::logs::run as logs;
pub(crate) use self::profile::{Entry, Profiles};
pub(crate) use self::profiles::run as profile;
pub(crate) use self::refusal::Refusal;
pub(crate) use self::releases::{difference, releases, roll_back};
pub(crate) use self::tenants::run as tenants;
pub(crate) use self::terminal::warn;
pub(crate) use self::uploads::{Kind, run as uploads};
pub(crate) use self::url::ServerUrl;
pub(crate) use self::usage::run as usage;
pub(crate) use self::words::bytes as bytes_in_words;
