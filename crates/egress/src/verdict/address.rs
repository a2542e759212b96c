//! What kind of address an address is.
//!
//! Source: the IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its
//! updates). What is not known to be globally reachable counts as reserved.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Classes of addresses; only [`Class::Global`] is reachable by a rule for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Reachable from everywhere.
    Global,
    /// The host itself.
    Loopback,
    /// RFC 1918 and RFC 4193.
    Private,
    /// One network segment.
    LinkLocal,
    /// Carrier-grade NAT, RFC 6598.
    Shared,
    /// More than one receiver.
    Multicast,
    /// Anything else that is not globally reachable: unspecified, documentation, benchmarking,
    /// transition mechanisms, future use.
    Reserved,
    /// A cloud's metadata service.
    Metadata,
}

impl Class {
    /// For sentences: "is … address".
    pub fn words(self) -> &'static str {
        match self {
            Self::Global => "a public",
            Self::Loopback => "a loopback",
            Self::Private => "a private",
            Self::LinkLocal => "a link-local",
            Self::Shared => "a carrier-grade NAT",
            Self::Multicast => "a multicast",
            Self::Reserved => "a reserved",
            Self::Metadata => "a metadata service's",
        }
    }
}

/// Addresses at which clouds give credentials to whoever asks.
const METADATA_V4: &[[u8; 4]] = &[
    [169, 254, 169, 254], // AWS, Google, Azure, DigitalOcean, Oracle, Hetzner, OpenStack
    [169, 254, 169, 253], // AWS resolver
    [169, 254, 169, 123], // AWS time
    [169, 254, 170, 2],   // AWS container credentials
    [169, 254, 170, 23],  // AWS pod identity
    [169, 254, 42, 42],   // Scaleway
    [169, 254, 0, 23],    // Tencent
    [100, 100, 100, 200], // Alibaba
    [168, 63, 129, 16],   // Azure wire server
    [192, 0, 0, 192],     // Oracle, classic
];

const METADATA_V6: &[[u16; 8]] = &[
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],   // AWS
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253],   // AWS resolver
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123],   // AWS time
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23],    // AWS pod identity
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254],    // Google
    [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42],     // Scaleway
    [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], // link-local twin, OpenStack
];

/// Whether the address, or one embedded in it, is a metadata service.
pub fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => METADATA_V4.contains(&v4.octets()),
        IpAddr::V6(v6) => {
            METADATA_V6.contains(&v6.segments()) || embedded(v6).is_some_and(|v4| METADATA_V4.contains(&v4.octets()))
        }
    }
}

/// The class of an address.
pub fn classify(address: IpAddr) -> Class {
    if is_metadata(address) {
        return Class::Metadata;
    }
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [100, 64..=127, ..] => Class::Shared,
        [224..=239, ..] => Class::Multicast,
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Class::Reserved,
        _ => Class::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    let segments = address.segments();
    if let Some(v4) = address.to_ipv4_mapped() {
        return classify_v4(v4);
    }
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0x0064, 0xff9b, 0, 0, 0, 0, _, _] => embedded(address).map_or(Class::Reserved, classify_v4),
        [first, ..] if first & 0xfe00 == 0xfc00 => Class::Private,
        [first, ..] if first & 0xffc0 == 0xfe80 => Class::LinkLocal,
        [first, ..] if first & 0xff00 == 0xff00 => Class::Multicast,
        // IETF protocol assignments (Teredo, benchmarking, ORCHID, …), documentation, 6to4.
        [0x2001, second, ..] if second < 0x0200 || second == 0x0db8 => Class::Reserved,
        [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Reserved,
        // ISATAP: an IPv4 address behind 0000:5efe or 0200:5efe.
        [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => Class::Reserved,
        [first, ..] if first & 0xe000 == 0x2000 => Class::Global,
        _ => Class::Reserved,
    }
}

/// The IPv4 address that an IPv6 address carries: mapped, compatible, translated, NAT64, 6to4,
/// Teredo, ISATAP.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(pair(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] => Some(pair(high, low)),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        [0x0064, 0xff9b, 1, .., high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        [0x2001, 0, .., high, low] => Some(pair(!high, !low)),
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => Some(pair(high, low)),
        _ => None,
    }
}
