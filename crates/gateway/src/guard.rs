//! Who may ask. A service on loopback is within reach of every page the user's browser shows, so a token is not enough of
//! a wall by itself: a foreign `Host` (DNS rebinding) and a foreign `Origin` (a page's script) are refused before it.

use std::{fmt, net::IpAddr, str::FromStr};

use axum::http::{
    HeaderMap,
    header::{AUTHORIZATION, HOST, ORIGIN},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    fault::Fault,
    tokens::{Refusal, Scope, Tokens},
};

/// Characters of a token at least: 128 bits in hexadecimal. Shorter ones could be guessed.
const TOKEN_MIN: usize = 32;
/// Characters of a token at most: headers are bounded, and longer adds nothing.
const TOKEN_MAX: usize = 256;

/// A token that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a token is {TOKEN_MIN} to {TOKEN_MAX} visible ASCII characters in one word")]
pub struct TokenError;

/// The bearer token: a secret, wiped when dropped and never shown.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let fits = (TOKEN_MIN..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(Zeroizing::new(text.to_owned()))).ok_or(TokenError)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Compares in a time that tells nothing but the length.
    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// The name of the node's own token in [`crate::usage`]; no other has such an id.
pub const FIRST: &str = "first";

/// Who asks: the token that a request came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Its id, or [`FIRST`].
    pub(crate) id: String,
    /// Units it may use in all.
    pub(crate) budget: Option<u64>,
}

/// The node's own token, which may do everything, and those that were made beside it.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) own: Token,
    pub(crate) others: Tokens,
    /// Callers come by TLS: a certificate's name stands for the host then.
    pub(crate) tls: bool,
}

impl Access {
    fn check(&self, given: &str, scope: Scope) -> Result<Caller, Fault> {
        if self.own.is(given) {
            return Ok(Caller { id: FIRST.to_owned(), budget: None });
        }
        if given.len() > TOKEN_MAX {
            return Err(wrong());
        }
        self.others.check(given, scope).map_err(|refusal| match refusal {
            Refusal::Unknown => wrong(),
            Refusal::Scope(word) => Fault::denied(format!(
                "this token has not the scope '{word}': make one that has, with 'zero2ai token new --scopes {word}'"
            )),
            Refusal::Rate(most) => {
                Fault::busy(format!("this token may ask {most} times a minute: try again in a while"))
            }
        })
    }
}

fn wrong() -> Fault {
    Fault::unauthorized(
        "the bearer token is wrong, expired or revoked: one stands in the file http.token of the node's home, and 'zero2ai \
         token new' makes others",
    )
}

/// Checks a request's headers: host, then origin, then token and what that may do.
pub(crate) fn check(access: &Access, scope: Scope, headers: &HeaderMap) -> Result<Caller, Fault> {
    let host = text(headers, HOST.as_str());
    // By TLS a rebound name fails at the certificate, which does not bear it.
    if !host.is_some_and(|host| is_local(host) || (access.tls && !host.is_empty())) {
        return Err(Fault::denied(
            "the Host header does not name this machine; use http://127.0.0.1 or http://localhost as the base URL",
        ));
    }
    let scheme = if access.tls { "https://" } else { "http://" };
    let own =
        |origin: &str| origin.strip_prefix(scheme).is_some_and(|o| host.is_some_and(|h| o.eq_ignore_ascii_case(h)));
    let foreign = headers.contains_key(ORIGIN) && !text(headers, ORIGIN.as_str()).is_some_and(own);
    if foreign || text(headers, "sec-fetch-site") == Some("cross-site") {
        return Err(Fault::denied("requests from pages of other sites are refused: call the gateway from a program"));
    }
    let bearer = text(headers, AUTHORIZATION.as_str()).and_then(|value| value.split_once(' '));
    match bearer {
        Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => access.check(given.trim(), scope),
        Some(_) => Err(wrong()),
        None => Err(Fault::unauthorized(
            "a bearer token is needed: send 'Authorization: Bearer TOKEN'; it stands in the file http.token of the node's home",
        )),
    }
}

/// The one value of a header; nothing if it is there twice or no text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// True for a `Host` that can only mean this machine. The port may be another's: a tunnel's.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::{HeaderName, HeaderValue, StatusCode};

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn status(pairs: &[(&'static str, &'static str)]) -> Option<StatusCode> {
        by(false, pairs)
    }

    fn by(tls: bool, pairs: &[(&'static str, &'static str)]) -> Option<StatusCode> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let access = Access { own: TOKEN.parse().unwrap(), others: Tokens::new("/nonexistent".into()), tls };
        check(&access, Scope::Infer, &headers).err().map(|fault| fault.status)
    }

    #[test]
    fn only_local_programs_with_the_token_pass() {
        let auth = ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        for host in ["127.0.0.1", "127.0.0.1:8700", "localhost:1", "LOCALHOST", "[::1]:8700", "127.9.9.9"] {
            assert_eq!(status(&[("host", host), auth]), None, "{host}");
        }
        for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com", "192.0.2.1:8700", "", "[::2]"] {
            assert_eq!(status(&[("host", host), auth]), Some(StatusCode::FORBIDDEN), "{host}");
        }
        assert_eq!(status(&[auth]), Some(StatusCode::FORBIDDEN), "no host");
        assert_eq!(
            status(&[("host", "localhost"), ("host", "localhost"), auth]),
            Some(StatusCode::FORBIDDEN),
            "two hosts"
        );
    }

    #[test]
    fn by_tls_any_one_host_passes_and_foreign_pages_do_not() {
        let (host, auth) =
            (("host", "node.example:8700"), ("authorization", "bearer 0123456789abcdef0123456789abcdef"));
        assert_eq!(by(true, &[host, auth]), None);
        assert_eq!(by(true, &[host, auth, ("origin", "https://node.example:8700")]), None);
        for origin in ["http://node.example:8700", "https://evil.example", "null"] {
            assert_eq!(by(true, &[host, auth, ("origin", origin)]), Some(StatusCode::FORBIDDEN), "{origin}");
        }
        assert_eq!(by(true, &[host]), Some(StatusCode::UNAUTHORIZED));
        assert_eq!(by(true, &[("host", ""), auth]), Some(StatusCode::FORBIDDEN));
        assert_eq!(by(true, &[auth]), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn foreign_pages_are_refused() {
        let (host, auth) = (("host", "localhost:8700"), ("authorization", "bearer 0123456789abcdef0123456789abcdef"));
        assert_eq!(status(&[host, auth, ("origin", "http://localhost:8700")]), None);
        for origin in ["http://evil.example", "null", "http://localhost:9999", "https://localhost:8700", ""] {
            assert_eq!(status(&[host, auth, ("origin", origin)]), Some(StatusCode::FORBIDDEN), "{origin}");
        }
        assert_eq!(status(&[host, auth, ("sec-fetch-site", "cross-site")]), Some(StatusCode::FORBIDDEN));
        assert_eq!(status(&[host, auth, ("sec-fetch-site", "none")]), None);
    }

    #[test]
    fn tokens_are_needed_and_must_be_right() {
        let host = ("host", "127.0.0.1");
        for auth in
            ["Bearer 0123456789abcdef0123456789abcdee", "Bearer", "Basic 0123456789abcdef0123456789abcdef", "Bearer "]
        {
            assert_eq!(status(&[host, ("authorization", auth)]), Some(StatusCode::UNAUTHORIZED), "{auth}");
        }
        assert_eq!(status(&[host]), Some(StatusCode::UNAUTHORIZED));
        for bad in ["short", "0123456789abcdef 0123456789abcdef", ""] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        assert!(!format!("{:?}", TOKEN.parse::<Token>().unwrap()).contains(TOKEN));
    }
}
