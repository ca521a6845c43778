//! What `wit-bindgen` makes of the contract in `wit/`: the types, the imports, and one macro for each exported
//! interface. Nothing is written here by hand; the other modules put a face on it.
#![allow(unsafe_code, reason = "generated glue: it moves values between Rust and the component's memory")]
#![allow(missing_docs, reason = "generated: what the contract documents is documented, the glue is not")]
#![allow(unreachable_pub, unused_qualifications, clippy::pedantic, reason = "generated: not ours to tidy")]

/// The vocabulary and the imports of every plugin.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "imports",
        // Written by hand, so that it displays as its message.
        with: { "sandmill:plugin/types@0.1.0/error": crate::error::Error },
        generate_all,
        generate_unused_types: true,
        additional_derives: [Clone, PartialEq],
    });
}

/// The vocabulary, with what is written by hand.
pub mod types {
    pub use super::imports::sandmill::plugin::types::*;
    pub use crate::error::Error;
}

/// The import `models`. What it takes is borrowed, so that tensors reach the host from where they lie; what it gives is
/// owned.
pub mod models {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        inline: "package sandmill:guest; world model-caller { import sandmill:plugin/models@0.1.0; }",
        with: {
            "sandmill:plugin/types@0.1.0/dtype": crate::bindings::types::Dtype,
            // Written by hand, so that it displays as its message.
            "sandmill:plugin/models@0.1.0/error": crate::models::Error,
        },
        generate_all,
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The export `init`.
pub mod initializer {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        inline: "package sandmill:guest; world initializer { export sandmill:plugin/init@0.1.0; }",
        // Written by hand, so that it leaves no garbage.
        with: { "sandmill:plugin/init@0.1.0/asset": crate::init::Asset },
        generate_all,
        pub_export_macro: true,
    });
}

/// The export `preprocess`.
pub mod preprocessor {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "preprocessor",
        with: {
            "sandmill:plugin/types@0.1.0": crate::bindings::types,
            "sandmill:plugin/log@0.1.0": crate::bindings::imports::sandmill::plugin::log,
            "sandmill:plugin/config@0.1.0": crate::bindings::imports::sandmill::plugin::config,
            "sandmill:plugin/model-info@0.1.0": crate::bindings::imports::sandmill::plugin::model_info,
        },
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
    });
}

/// The export `postprocess`.
pub mod postprocessor {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "postprocessor",
        with: {
            "sandmill:plugin/types@0.1.0": crate::bindings::types,
            "sandmill:plugin/log@0.1.0": crate::bindings::imports::sandmill::plugin::log,
            "sandmill:plugin/config@0.1.0": crate::bindings::imports::sandmill::plugin::config,
            "sandmill:plugin/model-info@0.1.0": crate::bindings::imports::sandmill::plugin::model_info,
        },
        pub_export_macro: true,
    });
}

/// The export `handler`.
pub mod request_handler {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "request-handler",
        with: {
            "sandmill:plugin/types@0.1.0": crate::bindings::types,
            "sandmill:plugin/log@0.1.0": crate::bindings::imports::sandmill::plugin::log,
            "sandmill:plugin/config@0.1.0": crate::bindings::imports::sandmill::plugin::config,
            "sandmill:plugin/model-info@0.1.0": crate::bindings::imports::sandmill::plugin::model_info,
            "sandmill:plugin/models@0.1.0": crate::bindings::models::sandmill::plugin::models,
        },
        pub_export_macro: true,
    });
}
