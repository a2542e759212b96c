//! One form for every spelling of a host.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A host as rules and requests are compared: a lowercase ASCII name without trailing dot, or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name; international ones in their ASCII form.
    Name(String),
    /// An address; an IPv4-mapped IPv6 address is the IPv4 address.
    Address(IpAddr),
}

/// Why a text is no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostProblem {
    /// Nothing there.
    Empty,
    /// A character that a host cannot have.
    Character,
    /// Empty label, label over 63 or name over 253 bytes.
    Length,
    /// Looks like an address and is none, or has a zone.
    Address,
    /// Not a valid international name.
    International,
}

impl fmt::Display for HostProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the host is empty",
            Self::Character => "the host has a character that hosts cannot have",
            Self::Length => "the host has an empty or overlong part",
            Self::Address => "the host looks like an address and is none",
            Self::International => "the host is no valid international name",
        })
    }
}

impl Host {
    /// Reads a host as a URL has it: a name, an IPv4 address in any spelling that resolvers accept
    /// (octal, hexadecimal, fewer parts), an IPv6 address in brackets.
    ///
    /// # Errors
    /// The problem. Percent escapes, white space, zones and control characters are never accepted.
    pub fn parse(text: &str) -> Result<Self, HostProblem> {
        if text.is_empty() {
            return Err(HostProblem::Empty);
        }
        if text.len() > 1024 {
            return Err(HostProblem::Length);
        }
        if let Some(inside) = text.strip_prefix('[') {
            let inside = inside.strip_suffix(']').ok_or(HostProblem::Address)?;
            let address: Ipv6Addr = inside.parse().map_err(|_| HostProblem::Address)?;
            return Ok(Self::Address(IpAddr::V6(address).to_canonical()));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !text.chars().all(|c| plain(c) || (!c.is_ascii() && !c.is_whitespace() && !c.is_control())) {
            return Err(HostProblem::Character);
        }
        let dotless = text.strip_suffix('.');
        let parsed = url::Host::parse(dotless.unwrap_or(text)).map_err(|_| match text.is_ascii() {
            true if text.contains("..") || text == "." => HostProblem::Length,
            true => HostProblem::Address,
            false => HostProblem::International,
        })?;
        match parsed {
            url::Host::Ipv4(address) => Ok(Self::Address(address.into())),
            url::Host::Ipv6(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
            url::Host::Domain(name) => {
                // The international mapping can yield the one trailing dot.
                let name = match name.strip_suffix('.') {
                    Some(rest) if dotless.is_none() => rest.to_owned(),
                    _ => name,
                };
                if !name.chars().all(plain) {
                    return Err(HostProblem::Character);
                }
                if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
                    return Err(HostProblem::Length);
                }
                Ok(Self::Name(name))
            }
        }
    }

    /// Whether it is `localhost` or below it (RFC 6761, section 6.3).
    pub fn is_localhost(&self) -> bool {
        matches!(self, Self::Name(name) if name == "localhost" || name.ends_with(".localhost"))
    }

    /// Splits `host:port` and parses both; the port is `None` when there is no colon.
    ///
    /// # Errors
    /// The problem, also for a port outside 1 to 65535 or with anything but digits.
    pub fn parse_with_port(text: &str) -> Result<(Self, Option<u16>), HostProblem> {
        let (host, port) = match text.rfind(':') {
            Some(at) if !text.ends_with(']') => (&text[..at], Some(&text[at + 1..])),
            _ => (text, None),
        };
        let port = port.map(|digits| {
            let fine = !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|port| fine && *port != 0).ok_or(HostProblem::Address)
        });
        Ok((Self::parse(host)?, port.transpose()?))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}
