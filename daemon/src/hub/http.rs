//! Requests to a hub. A token goes to the hub alone: not over plain HTTP to another machine, and not along when it sends us
//! elsewhere for the bytes.

use std::{io::Read, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::{Agent, Body, config::RedirectAuthHeaders, http::Response};

use super::place::Place;
use crate::exit::{Exit, Failure, Outcome};

/// Longest wait for a connection, for the head of an answer, and between two of its bytes.
const CONNECT: Duration = Duration::from_secs(30);
/// As above.
const QUIET: Duration = Duration::from_secs(60);
/// Bytes in a list of files: some thousand names and hashes.
const LIST_BYTES: u64 = 16 * 1024 * 1024;
/// Hops from one address to the next.
const REDIRECTS: u32 = 5;
/// What stands in an address as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'~');

/// Why a request brought nothing.
pub(super) enum Trouble {
    /// It may go better the next time.
    Passing(String),
    /// It will not.
    Final(Failure),
}

/// Bytes of a file, from some place on.
pub(super) struct Bytes {
    /// Where they start: where they were asked for, or 0 if the server sends all of it again.
    pub(super) from: u64,
    pub(super) reader: Box<dyn Read>,
}

/// A hub, and what is needed to ask it.
pub(super) struct Http {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Http {
    /// For the hub at `endpoint`. Sends nothing yet.
    pub(super) fn new(endpoint: &str) -> Outcome<Self> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let usage = |why: &str| Failure::new(Exit::Usage, format!("'{endpoint}' is no address of a hub: {why}."));
        let secure = endpoint.starts_with("https://");
        let host = endpoint.strip_prefix("http://").map(|rest| rest.split('/').next().unwrap_or_default());
        if !secure && host.is_none() {
            return Err(usage("it starts with https://, or http:// for a mirror of your own"));
        }
        let token = std::env::var("HF_TOKEN").ok().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        if token.is_some() && host.is_some_and(|host| !is_loopback(host)) {
            return Err(usage("HF_TOKEN is set, and a token is not sent over plain HTTP. Use https://, or unset it"));
        }
        let near = host.is_some_and(is_loopback);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(secure)
            .max_redirects(REDIRECTS)
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .user_agent(concat!("zero2ai/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(QUIET))
            .timeout_per_read(Some(QUIET));
        if near {
            // No proxy leads back to this machine.
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), endpoint, token })
    }

    /// The hub's word on a repository at a revision, as it came.
    pub(super) fn listing(&self, place: &Place) -> Outcome<Vec<u8>> {
        let revision = utf8_percent_encode(&place.revision, PLAIN);
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.endpoint, place.repo);
        let give_up = |trouble: Trouble| match trouble {
            Trouble::Final(failure) => failure,
            Trouble::Passing(why) => {
                Failure::new(Exit::Unreachable, format!("{url} gives no list of files: {why}. Try again later."))
            }
        };
        let response = self.get(&url, None).map_err(give_up)?;
        let body = response.into_body().into_with_config().limit(LIST_BYTES).read_to_vec();
        body.map_err(|e| give_up(Trouble::Passing(e.to_string())))
    }

    /// The address of one file at a commit.
    pub(super) fn file(&self, place: &Place, commit: &str, path: &str) -> String {
        let path: Vec<String> = path.split('/').map(|part| utf8_percent_encode(part, PLAIN).to_string()).collect();
        format!("{}/{}/resolve/{commit}/{}", self.endpoint, place.repo, path.join("/"))
    }

    /// The bytes of a file of `size` bytes, from `from` on.
    pub(super) fn bytes(&self, url: &str, from: u64, size: u64) -> Result<Bytes, Trouble> {
        let response = self.get(url, Some(from).filter(|from| *from > 0))?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        let other_size = |said: &str| {
            let why = format!("{url} is not the file that was listed: {size} bytes were listed, and now it is {said}.");
            Trouble::Final(Failure::new(Exit::Unverified, why))
        };
        let from = if response.status() == 206 {
            let range = header("content-range").unwrap_or_default();
            let (start, total) = content_range(range)
                .ok_or_else(|| Trouble::Passing(format!("the server sent a part without saying which ('{range}')")))?;
            if total.is_some_and(|total| total != size) {
                return Err(other_size(range));
            }
            if start != from {
                return Err(Trouble::Passing(format!("the server sent another part than was asked for ('{range}')")));
            }
            from
        } else {
            if let Some(length) = header("content-length").and_then(|l| l.parse::<u64>().ok()).filter(|l| *l != size) {
                return Err(other_size(&length.to_string()));
            }
            0
        };
        Ok(Bytes { from, reader: Box::new(response.into_body().into_reader()) })
    }

    fn get(&self, url: &str, from: Option<u64>) -> Result<Response<Body>, Trouble> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_) | ureq::Error::TooManyRedirects => {
                Trouble::Final(Failure::new(Exit::Unreachable, format!("{url} cannot be asked: {e}.")))
            }
            other => Trouble::Passing(other.to_string()),
        })?;
        let fail = |exit, why: &str| Err(Trouble::Final(Failure::new(exit, format!("{url}: {why}"))));
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            401 | 403 => fail(
                Exit::Denied,
                "the hub does not let us have it. Is the name spelled right? If it is private or gated, put an access \
                 token into HF_TOKEN.",
            ),
            404 | 410 => fail(Exit::NotFound, "the hub has nothing of that name and revision."),
            status @ (408 | 429 | 500..=599) => Err(Trouble::Passing(format!("the server answers {status}"))),
            status => fail(Exit::Unreachable, &format!("the server answers {status}, which this program cannot use.")),
        }
    }
}

/// Start and total of `bytes 5-9/10`; no total for `bytes 5-9/*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((range.split_once('-')?.0.parse().ok()?, total))
}

/// True if `host`, with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let bare = bare.map_or(host, |(bare, _)| bare).trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_hosts_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for odd in ["", "bytes 5-9", "bytes */10", "bytes -9/10", "bytes 5-9/x", "bits 5-9/10"] {
            assert_eq!(content_range(odd), None, "{odd}");
        }
        for (host, is) in [("127.0.0.1:80", true), ("[::1]:80", true), ("localhost", true), ("hub.example:80", false)] {
            assert_eq!(is_loopback(host), is, "{host}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        let (Ok(http), Ok(Some(place))) = (Http::new("https://hub.example/"), Place::read("hf:a/b@x/y".as_ref()))
        else {
            return assert!(std::env::var_os("HF_TOKEN").is_some());
        };
        let url = http.file(&place, "c0ffee", "a b/c?d#e%2f/ü");
        assert_eq!(url, "https://hub.example/a/b/resolve/c0ffee/a%20b/c%3Fd%23e%252f/%C3%BC");
        assert!(Http::new("ftp://hub.example").is_err() && Http::new("hub.example").is_err());
    }
}
