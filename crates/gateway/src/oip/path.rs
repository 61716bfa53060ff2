//! Which model and which action a path below `/v2/models/` means. Names hold a `/`, so `acme/digits` may come as two
//! segments or, URL-encoded, as one; what follows is the protocol's own.

use percent_encoding::percent_decode_str;
use zero2ai_proto::{ModelRef, name::Selector};

use crate::fault::Fault;

/// Where all these paths begin.
const MODELS: &str = "/v2/models/";

/// What is asked of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Metadata,
    Ready,
    Infer,
}

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) name: ModelRef,
    pub(super) action: Action,
}

/// Reads a path as it came, still encoded.
pub(super) fn target(path: &str) -> Result<Target, Fault> {
    let rest = path.strip_prefix(MODELS).unwrap_or_default();
    let decoded = rest.split('/').map(|segment| percent_decode_str(segment).decode_utf8());
    let segments: Vec<_> = decoded.collect::<Result<_, _>>().map_err(|_| Fault::invalid("the path is not UTF-8"))?;
    let mut segments = segments.iter().map(AsRef::as_ref);
    let first: &str = segments.next().unwrap_or_default();
    let name = match first.contains('/') {
        true => first.to_owned(),
        false => format!("{first}/{}", segments.next().unwrap_or_default()),
    };
    let mut name: ModelRef =
        name.parse().map_err(|e: zero2ai_proto::name::NameError| Fault::no_model(e.to_string()))?;
    let mut next = segments.next();
    if next == Some("versions") {
        let version = segments.next().and_then(|v| v.parse().ok()).filter(|v| *v > 0);
        let version = version.ok_or_else(|| Fault::invalid("after /versions/ comes a version number from 1"))?;
        if name.selector != Selector::Latest {
            return Err(Fault::invalid("the version is said twice, in the name and in the path: leave one out"));
        }
        name.selector = Selector::Version(version);
        next = segments.next();
    }
    let action = match (next, segments.next()) {
        (None, _) => Action::Metadata,
        (Some("ready"), None) => Action::Ready,
        (Some("infer"), None) => Action::Infer,
        _ => {
            return Err(Fault::invalid(format!(
                "a model's path ends with its name, /ready or /infer; {name} is the name"
            )));
        }
    };
    Ok(Target { name, action })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_path_is_read() {
        let means = |path: &str, name: &str, action| {
            let want = Target { name: name.parse().unwrap(), action };
            assert_eq!(target(&format!("{MODELS}{path}")).unwrap(), want, "{path}");
        };
        means("acme/digits", "acme/digits", Action::Metadata);
        means("acme%2Fdigits", "acme/digits", Action::Metadata);
        means("acme%2fdigits/infer", "acme/digits", Action::Infer);
        means("acme/digits/versions/3/infer", "acme/digits@3", Action::Infer);
        means("acme%2Fdigits/versions/3", "acme/digits@3", Action::Metadata);
        means("acme/digits%403/ready", "acme/digits@3", Action::Ready);
        means("acme/digits:stable/ready", "acme/digits:stable", Action::Ready);
        // A model may well be called as an action is.
        means("acme/infer", "acme/infer", Action::Metadata);
        means("acme/ready/ready", "acme/ready", Action::Ready);
        means("acme/versions/versions/1", "acme/versions@1", Action::Metadata);
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "",
            "acme",
            "acme/",
            "acme%2F",
            "acme/digits/",
            "acme/digits/explode",
            "acme/digits/infer/infer",
            "%ff/x",
            "acme/digits/versions",
            "acme/digits/versions/0",
            "acme/digits/versions/x/infer",
            "acme/digits@2/versions/2",
            "a%2Fb%2Fc",
            "../x",
            "ACME/digits",
        ] {
            assert!(target(&format!("{MODELS}{path}")).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "\\PC{0,80}") {
            let _ = target(&format!("{MODELS}{path}"));
        }
    }
}
