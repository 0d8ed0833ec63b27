//! What may stand as the URL of an endpoint. Numbers in odd spellings (octal, hex, mapped, full-width) are brought
//! to one form by the parser of the WHATWG URL standard before they are looked at, and that form is what is stored
//! and called.

use std::net::IpAddr;

use ::url::{Host, Url};

use super::guard::Guard;

/// Most bytes of a URL.
const LENGTH: usize = 2_048;

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("it is no URL: {0}")]
    Malformed(#[from] ::url::ParseError),
    #[error("it is longer than {LENGTH} bytes")]
    TooLong,
    #[error("its scheme is {0:?}; https and http are served")]
    Scheme(String),
    #[error("it holds a user name or password; an endpoint knows us by the signature")]
    UserInfo,
    #[error("it holds a fragment, which is never sent")]
    Fragment,
    #[error("it names no host")]
    NoHost,
    #[error("it holds a space, a backslash or a control character")]
    Character,
    #[error("{0} is not an address of the public internet")]
    Address(String),
}

/// Checks the URL of a new endpoint and gives the form that is stored.
pub fn check(text: &str, guard: Guard) -> Result<Url, UrlError> {
    if text.len() > LENGTH {
        return Err(UrlError::TooLong);
    }
    // The parser drops tabs and newlines in silence and takes a backslash for a slash, as other parsers do not: what
    // one reads would not be what is called.
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err(UrlError::Character);
    }
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(UrlError::Scheme(url.scheme().to_owned()));
    }
    // An empty user name is lost in parsing.
    let authority = text.split_once("//").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    check_host(&url, guard)?;
    Ok(url)
}

/// Checks the host as far as the URL tells: an address in it is dialled without asking a resolver. Made again before
/// each try, since the settings may have changed.
pub fn check_host(url: &Url, guard: Guard) -> Result<(), UrlError> {
    let refused = |name: String| Err(UrlError::Address(name));
    match url.host() {
        None => Err(UrlError::NoHost),
        Some(Host::Ipv4(address)) if !guard.allows(IpAddr::V4(address)) => refused(address.to_string()),
        Some(Host::Ipv6(address)) if !guard.allows(IpAddr::V6(address)) => refused(address.to_string()),
        // RFC 6761: these never leave the machine, whatever a resolver says.
        Some(Host::Domain(name)) if is_localhost(name) && !guard.allows_loopback() => {
            refused(name.to_owned())
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_) | Host::Domain(_)) => Ok(()),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Spellings of addresses that are not public.
    const NOT_PUBLIC: &[&str] = &[
        "http://127.0.0.1",
        "http://127.1",
        "http://127.0.1",
        "http://0177.0.0.1",
        "http://0177.0.0.01",
        "http://0x7f.0.0.1",
        "http://0x7f.1",
        "http://0x7f000001",
        "http://2130706433",
        "http://017700000001",
        "http://127.0.0.1.",
        "http://0",
        "http://0.0.0.0",
        "http://0x0",
        "http://00000000000",
        "http://[::1]",
        "http://[0:0:0:0:0:0:0:1]",
        "http://[::]",
        "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]",
        "http://[0:0:0:0:0:ffff:7f00:0001]",
        "http://[::127.0.0.1]",
        "http://[64:ff9b::127.0.0.1]",
        "http://[2002:7f00:1::]",
        "http://[fe80::1]",
        "http://[fd00:ec2::254]",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166",
        "http://0xa9fea9fe",
        "http://0251.0376.0251.0376",
        "http://0xa9.0xfe.0xa9.0xfe",
        "http://169.254.43518",
        "http://[::ffff:a9fe:a9fe]",
        "http://10.0.0.1",
        "http://012.0.0.1",
        "http://192.168.1.1",
        "http://0300.0250.1.1",
        "http://172.16.0.1",
        "http://100.64.0.1",
        "http://198.18.0.1",
        "http://224.0.0.1",
        "http://255.255.255.255",
        "http://localhost",
        "http://LOCALHOST:8080",
        "http://localhost.",
        "http://a.localhost",
        "http://\u{ff11}27.0.0.1",
        "http://127\u{3002}0\u{3002}0\u{3002}1",
        "http://\u{2460}27.0.0.1",
        "http://%31%32%37.0.0.1",
        "http://127.0.0.%31",
        "http:127.0.0.1",
        "http:/127.0.0.1",
        "http:///127.0.0.1",
        "HTTP://127.0.0.1",
        "https://127.0.0.1",
    ];
    /// What is refused for another reason than the address.
    const REFUSED: &[&str] = &[
        "",
        "x",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "javascript:alert(1)",
        "data:,x",
        "unix:/run/x",
        "http://",
        "https://",
        "http://:80",
        "http://user@example.com",
        "http://user:pass@example.com",
        "http://@example.com",
        "http://:@example.com",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1@example.com",
        "http://example.com\\@127.0.0.1:80@x",
        "http:\\\\127.0.0.1",
        "http://example.com\\.evil.example",
        "http://example.com/#x",
        "http://example.com#@127.0.0.1",
        "http://exa mple.com",
        "http://example.com/\n",
        "http://exam\tple.com",
        "http://example.com/\u{0}",
        "http://[fe80::1%25eth0]",
        "http://[fe80::1%eth0]",
        "http://[::1",
        "http://[::g]",
        "http://1.2.3.4.5",
        "http://256.256.256.256",
        "http://0x1ffffffff",
        "http://99999999999",
        "http://example.com:99999",
        "http://example.com:-1",
        " http://example.com",
        "http://1.1.1.1 &@2.2.2.2# @3.3.3.3/",
    ];
    const ALLOWED: &[&str] = &[
        "https://example.com",
        "https://example.com/a/b?c=d",
        "http://example.com:8080/",
        "https://8.8.8.8/x",
        "https://[2606:4700:4700::1111]/",
        "https://b\u{fc}cher.example/",
        "https://example.com/a@b",
        "https://localhost.example.com",
    ];

    #[test]
    fn e09_every_spelling_of_a_private_address_is_refused() {
        let mut wrong = Vec::new();
        for text in NOT_PUBLIC {
            if !matches!(check(text, Guard::new(false)), Err(UrlError::Address(_))) {
                wrong.push((text, check(text, Guard::new(false))));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn e10_user_info_fragments_and_other_schemes_are_refused() {
        let allowed: Vec<_> = REFUSED
            .iter()
            .filter(|text| check(text, Guard::new(true)).is_ok())
            .collect();
        assert!(allowed.is_empty(), "{allowed:#?}");
        for text in ALLOWED {
            assert!(
                check(text, Guard::new(false)).is_ok(),
                "{text}: {:?}",
                check(text, Guard::new(false))
            );
        }
    }

    #[test]
    fn a_long_url_is_refused() {
        let long = format!("https://example.com/{}", "x".repeat(LENGTH));
        assert_eq!(check(&long, Guard::new(false)), Err(UrlError::TooLong));
    }

    proptest! {
        /// Whatever is let through dials a name, or an address that the guard lets through, in the form that is stored.
        #[test]
        fn e09_what_passes_dials_what_was_checked(text in "http://[0-9a-fx.:\\[\\]%@]{1,24}(/[a-z]{0,4})?") {
            let guard = Guard::new(false);
            if let Ok(url) = check(&text, guard) {
                let again = check(url.as_str(), guard);
                prop_assert_eq!(again.as_ref(), Ok(&url));
                let host = url.host_str().unwrap_or_default();
                let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
                prop_assert!(literal.is_err() || guard.allows(literal.unwrap()), "{}", url);
            }
        }
    }
}
