//! The decision, as a table: a policy, what is asked for, what it resolves to, and the verdict.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::IpAddr;

use cove_core::{EgressPolicy, ErrorKind, HostRule};
use cove_egress::verdict::{Class, Host, Policy, classify, is_metadata};

fn policy(allow: &str, block: &str, allow_private: bool) -> EgressPolicy {
    let rules = |text: &str| text.split_whitespace().map(|r| HostRule(r.to_owned())).collect();
    EgressPolicy { allow: rules(allow), block: rules(block), allow_private }
}

/// `Ok` with the rule's text when host, port and all addresses pass.
fn judge(policy: &EgressPolicy, asked: &str, addresses: &[&str]) -> Result<String, String> {
    let policy = Policy::compile(policy).unwrap();
    let (host, port) = Host::parse_with_port(asked).map_err(|e| e.to_string())?;
    let port = port.ok_or("no port")?;
    let allowed = policy.judge(&host, port).map_err(|r| r.to_string())?;
    let addresses: Vec<IpAddr> = match &host {
        Host::Address(address) => vec![*address],
        Host::Name(_) => addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    policy.judge_addresses(&host, port, &allowed, &addresses).map_err(|r| r.to_string())?;
    Ok(allowed.rule)
}

const PUBLIC: &[&str] = &["93.184.216.34"];

#[test]
fn names_ports_and_spellings() {
    let rules = "example.com *.cdn.example api.example:8443 one.example:22 one.example bücher.example xn--fa-hia.example under_score.example 8.8.8.8 9.9.9.9:53 [2606:4700::1111]:853 2606:4700::1001 localhost:11434 single";
    let block = "bad.cdn.example *.ads.cdn.example example.com:80 2606:4700::1001";
    let table: &[(&str, Option<&str>)] = &[
        // Exact names.
        ("example.com:443", Some("example.com")),
        ("EXAMPLE.COM:443", Some("example.com")),
        ("ExAmPlE.cOm:443", Some("example.com")),
        ("example.com.:443", Some("example.com")),
        ("example.com..:443", None),
        (".example.com:443", None),
        ("example..com:443", None),
        ("www.example.com:443", None),
        ("xexample.com:443", None),
        ("example.com.evil:443", None),
        ("example.comevil:443", None),
        ("example.co:443", None),
        ("com:443", None),
        ("single:443", Some("single")),
        ("other:443", None),
        // Below a name, at any depth, not the name itself.
        ("a.cdn.example:443", Some("*.cdn.example")),
        ("a.b.c.cdn.example:443", Some("*.cdn.example")),
        ("A.CDN.Example.:80", Some("*.cdn.example")),
        ("cdn.example:443", None),
        ("xcdn.example:443", None),
        (".cdn.example:443", None),
        ("a.cdn.example.evil.com:443", None),
        ("a.cdn.example:22", None),
        // Ports.
        ("api.example:8443", Some("api.example:8443")),
        ("api.example:443", None),
        ("api.example:80", None),
        ("example.com:8443", None),
        ("example.com:22", None),
        ("one.example:22", Some("one.example:22")),
        ("one.example:443", Some("one.example")),
        ("one.example:23", None),
        ("example.com:0", None),
        ("example.com:65536", None),
        ("example.com:00443", Some("example.com")),
        ("example.com:000443", None),
        ("example.com:+443", None),
        ("example.com:-1", None),
        ("example.com: 443", None),
        ("example.com:4 43", None),
        ("example.com:0x1bb", None),
        ("example.com:", None),
        ("example.com", None),
        (":443", None),
        // Blocks win.
        ("bad.cdn.example:443", None),
        ("x.bad.cdn.example:443", Some("*.cdn.example")),
        ("ads.cdn.example:443", Some("*.cdn.example")),
        ("x.ads.cdn.example:443", None),
        ("example.com:80", None),
        ("[2606:4700::1001]:443", None),
        // International names.
        ("bücher.example:443", Some("bücher.example")),
        ("BÜCHER.example:443", Some("bücher.example")),
        ("xn--bcher-kva.example:443", Some("bücher.example")),
        ("XN--BCHER-KVA.EXAMPLE:443", Some("bücher.example")),
        ("b\u{fc}cher\u{3002}example:443", Some("bücher.example")),
        ("bu\u{308}cher.example:443", Some("bücher.example")),
        ("bucher.example:443", None),
        ("faß.example:443", Some("xn--fa-hia.example")),
        ("fass.example:443", None),
        ("еxample.com:443", None),
        ("ｅｘａｍｐｌｅ.com:443", Some("example.com")),
        ("example\u{ff0e}com:443", Some("example.com")),
        ("exam\u{ad}ple.com:443", Some("example.com")),
        ("exam\u{200b}ple.com:443", Some("example.com")),
        ("xn--:443", None),
        ("xn--a.example:443", None),
        ("under_score.example:443", Some("under_score.example")),
        // What is no host.
        ("exa mple.com:443", None),
        ("example.com\0.evil:443", None),
        ("example.com%00.evil:443", None),
        ("example%2ecom:443", None),
        ("%65xample.com:443", None),
        ("example.com\t:443", None),
        ("example.com\r\nX:443", None),
        ("example.com\n:443", None),
        ("user@example.com:443", None),
        ("example.com@evil:443", None),
        ("example.com#evil:443", None),
        ("example.com?evil:443", None),
        ("example.com/evil:443", None),
        ("evil\\example.com:443", None),
        ("example.com,evil:443", None),
        ("example.com;evil:443", None),
        ("*.cdn.example:443", None),
        ("*:443", None),
        ("[example.com]:443", None),
        ("http://example.com:443", None),
        // Addresses and their spellings.
        ("8.8.8.8:443", Some("8.8.8.8")),
        ("8.8.8.8.:443", Some("8.8.8.8")),
        ("010.8.8.8:443", Some("8.8.8.8")),
        ("0x8.8.8.8:443", Some("8.8.8.8")),
        ("8.8.2056:443", Some("8.8.8.8")),
        ("134744072:443", Some("8.8.8.8")),
        ("0x08080808:443", Some("8.8.8.8")),
        ("[::ffff:8.8.8.8]:443", Some("8.8.8.8")),
        ("[::ffff:808:808]:443", Some("8.8.8.8")),
        ("８.８.８.８:443", Some("8.8.8.8")),
        ("8.8.8.8:53", None),
        ("8.8.4.4:443", None),
        ("9.9.9.9:53", Some("9.9.9.9:53")),
        ("9.9.9.9:443", None),
        ("256.8.8.8:443", None),
        ("8.8.8.8.8:443", None),
        ("8.8.8.0x:443", None),
        ("8.8.8.09:443", None),
        ("4294967296:443", None),
        ("[2606:4700::1111]:853", Some("[2606:4700::1111]:853")),
        ("[2606:4700:0:0:0:0:0:1111]:853", Some("[2606:4700::1111]:853")),
        ("[2606:4700:0000::0:1111]:853", Some("[2606:4700::1111]:853")),
        ("[2606:4700::1111]:443", None),
        ("[2606:4700::1112]:853", None),
        ("2606:4700::1111:853", None),
        ("[2606:4700::1111%25eth0]:853", None),
        ("[2606:4700::1111%eth0]:853", None),
        ("[::1:443", None),
        ("[]:443", None),
        // Without allowPrivate a rule for the host itself does not help.
        ("localhost:11434", None),
    ];
    for (asked, wanted) in table {
        let found = judge(&policy(rules, block, false), asked, PUBLIC);
        assert_eq!(found.as_deref().ok(), *wanted, "{asked:?}: {found:?}");
    }
    assert!(judge(&policy(rules, "", false), &format!("{}.cdn.example:443", "a".repeat(63)), PUBLIC).is_ok());
    assert!(judge(&policy(rules, "", false), &format!("{}.cdn.example:443", "a".repeat(64)), PUBLIC).is_err());
    assert!(judge(&policy(rules, "", false), &format!("{}cdn.example:443", "a.".repeat(122)), PUBLIC).is_err());
    assert!(judge(&policy(rules, "", false), &"a".repeat(100_000), PUBLIC).is_err());
}

/// Addresses that a name must never lead to, in every spelling a request can have, with the class.
const INSIDE: &[(&str, Class)] = &[
    ("127.0.0.1", Class::Loopback),
    ("127.255.255.254", Class::Loopback),
    ("::1", Class::Loopback),
    ("::ffff:127.0.0.1", Class::Loopback),
    ("0.0.0.0", Class::Reserved),
    ("0.1.2.3", Class::Reserved),
    ("::", Class::Reserved),
    ("::127.0.0.1", Class::Reserved),
    ("::ffff:0:127.0.0.1", Class::Reserved),
    ("10.0.0.1", Class::Private),
    ("10.255.255.255", Class::Private),
    ("172.16.0.1", Class::Private),
    ("172.31.255.255", Class::Private),
    ("192.168.1.1", Class::Private),
    ("::ffff:10.0.0.1", Class::Private),
    ("64:ff9b::10.0.0.1", Class::Private),
    ("64:ff9b::127.0.0.1", Class::Loopback),
    ("64:ff9b:1::a00:1", Class::Reserved),
    ("fc00::1", Class::Private),
    ("fdff::1", Class::Private),
    ("169.254.0.1", Class::LinkLocal),
    ("fe80::1", Class::LinkLocal),
    ("febf::1", Class::LinkLocal),
    ("fec0::1", Class::Reserved),
    ("100.64.0.1", Class::Shared),
    ("100.127.255.255", Class::Shared),
    ("224.0.0.1", Class::Multicast),
    ("239.255.255.255", Class::Multicast),
    ("ff02::1", Class::Multicast),
    ("192.0.0.1", Class::Reserved),
    ("192.0.2.1", Class::Reserved),
    ("192.88.99.1", Class::Reserved),
    ("198.18.0.1", Class::Reserved),
    ("198.19.255.255", Class::Reserved),
    ("198.51.100.1", Class::Reserved),
    ("203.0.113.1", Class::Reserved),
    ("240.0.0.1", Class::Reserved),
    ("255.255.255.255", Class::Reserved),
    ("2001:db8::1", Class::Reserved),
    ("2001::1", Class::Reserved),
    ("2001:0:1:2:3:4:f5ff:fffe", Class::Reserved),
    ("2001:2::1", Class::Reserved),
    ("2001:10::1", Class::Reserved),
    ("2002:a00:1::", Class::Reserved),
    ("2002:808:808::", Class::Reserved),
    ("3fff::1", Class::Reserved),
    ("5f00::1", Class::Reserved),
    ("100::1", Class::Reserved),
    ("4000::1", Class::Reserved),
    ("2a00::5efe:a00:1", Class::Reserved),
    ("169.254.169.254", Class::Metadata),
    ("169.254.170.2", Class::Metadata),
    ("169.254.170.23", Class::Metadata),
    ("100.100.100.200", Class::Metadata),
    ("168.63.129.16", Class::Metadata),
    ("192.0.0.192", Class::Metadata),
    ("fd00:ec2::254", Class::Metadata),
    ("fd00:ec2::23", Class::Metadata),
    ("fd20:ce::254", Class::Metadata),
    ("::ffff:169.254.169.254", Class::Metadata),
    ("64:ff9b::169.254.169.254", Class::Metadata),
    ("2002:a9fe:a9fe::", Class::Metadata),
    ("fe80::a9fe:a9fe", Class::Metadata),
];

#[test]
fn addresses_have_their_class_and_names_never_lead_inside() {
    for outside in [
        "8.8.8.8",
        "1.1.1.1",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "2606:4700::1",
        "2a00::1",
        "64:ff9b::8.8.8.8",
        "192.31.196.1",
        "198.17.0.1",
    ] {
        assert_eq!(classify(outside.parse().unwrap()), Class::Global, "{outside}");
        assert!(judge(&policy("a.example", "", false), "a.example:443", &[outside]).is_ok(), "{outside}");
    }
    for (inside, class) in INSIDE {
        let address: IpAddr = inside.parse().unwrap();
        assert_eq!(classify(address), *class, "{inside}");
        assert_eq!(is_metadata(address), *class == Class::Metadata, "{inside}");
        for allow_private in [false, true] {
            let policy = policy("a.example *.b.example", "", allow_private);
            assert!(judge(&policy, "a.example:443", &[inside]).is_err(), "{inside}");
            assert!(judge(&policy, "x.b.example:443", &[inside]).is_err(), "{inside}");
            // One wrong address among right ones is enough, at any place.
            assert!(judge(&policy, "a.example:443", &["8.8.8.8", inside]).is_err(), "{inside}");
            assert!(judge(&policy, "a.example:443", &[inside, "8.8.8.8"]).is_err(), "{inside}");
        }
        // Asked for directly, without a rule.
        let direct = if address.is_ipv6() { format!("[{inside}]:443") } else { format!("{inside}:443") };
        assert!(judge(&policy("*.com", "", true), &direct, &[]).is_err(), "{inside}");
    }
    assert!(judge(&policy("a.example", "", false), "a.example:443", &[]).is_err());
}

#[test]
fn the_host_itself_only_by_its_own_name_and_by_permission() {
    let rows: &[(&str, bool, &str, &[&str], bool)] = &[
        ("127.0.0.1:8080", true, "127.0.0.1:8080", &[], true),
        ("127.0.0.1:8080", false, "127.0.0.1:8080", &[], false),
        ("127.0.0.1:8080", true, "127.0.0.1:80", &[], false),
        ("127.0.0.1:8080", true, "0x7f.1:8080", &[], true),
        ("127.0.0.1:8080", true, "2130706433:8080", &[], true),
        ("127.0.0.1:8080", true, "[::ffff:7f00:1]:8080", &[], true),
        ("127.0.0.1:8080", true, "127.0.0.2:8080", &[], false),
        ("127.0.0.1:8080", true, "localhost:8080", &["127.0.0.1"], false),
        ("[::1]:8080", true, "[::1]:8080", &[], true),
        ("::1", true, "[::1]:443", &[], true),
        ("10.1.2.3", true, "10.1.2.3:443", &[], true),
        ("10.1.2.3", false, "10.1.2.3:443", &[], false),
        ("10.1.2.3", true, "10.1.2.4:443", &[], false),
        ("192.168.0.9:11434", true, "192.168.0.9:11434", &[], true),
        ("100.64.0.1", true, "100.64.0.1:443", &[], true),
        ("0.0.0.0", true, "0.0.0.0:443", &[], false),
        ("224.0.0.1", true, "224.0.0.1:443", &[], false),
        ("203.0.113.1", true, "203.0.113.1:443", &[], false),
        ("localhost:11434", true, "localhost:11434", &["127.0.0.1", "::1"], true),
        ("localhost:11434", false, "localhost:11434", &["127.0.0.1"], false),
        ("localhost:11434", true, "LOCALHOST.:11434", &["127.0.0.1"], true),
        ("localhost:11434", true, "localhost:11434", &["10.0.0.1"], false),
        ("localhost:11434", true, "x.localhost:11434", &["127.0.0.1"], false),
        ("*.localhost:80", true, "x.localhost:80", &["127.0.0.1"], true),
        ("*.localhost:80", true, "localhost:80", &["127.0.0.1"], false),
        ("*.localhost:80", false, "x.localhost:80", &["127.0.0.1"], false),
        ("model.localhost:8000", true, "model.localhost:8000", &["127.0.0.1"], true),
        ("model.localhost:8000", true, "model.localhost:8001", &["127.0.0.1"], false),
        ("mylocalhost", true, "mylocalhost:443", &["127.0.0.1"], false),
        ("localhost.example", true, "localhost.example:443", &["127.0.0.1"], false),
    ];
    for (allow, private, asked, addresses, wanted) in rows {
        let found = judge(&policy(allow, "", *private), asked, addresses);
        assert_eq!(found.is_ok(), *wanted, "{allow} {private} {asked} {addresses:?}: {found:?}");
    }
}

#[test]
fn metadata_services_are_refused_whatever_the_rules_say() {
    let wide = "*.internal *.com *.goog *.net metadata.example";
    for asked in [
        "metadata.google.internal:80",
        "METADATA.google.internal.:80",
        "x.metadata.google.internal:80",
        "metadata.goog:80",
        "metadata:80",
        "instance-data:80",
        "instance-data.ec2.internal:80",
        "metadata.azure.internal:80",
        "metadata.packet.net:80",
        "169.254.169.254:80",
        "0xa9fea9fe:80",
        "2852039166:80",
        "0251.0376.0251.0376:80",
        "[::ffff:169.254.169.254]:80",
        "[fd00:ec2::254]:80",
    ] {
        let found = judge(&policy(wide, "", true), asked, PUBLIC).unwrap_err();
        assert!(found.contains("metadata") || found.contains("No rule"), "{asked}: {found}");
    }
    assert!(judge(&policy("metadata.example", "", false), "metadata.example:80", PUBLIC).is_ok());
    for rule in [
        "169.254.169.254",
        "metadata.google.internal",
        "fd00:ec2::254",
        "[fd00:ec2::254]:80",
        "0xa9fea9fe",
        "metadata:8080",
        "168.63.129.16",
    ] {
        let error = Policy::compile(&policy(rule, "", true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rule}");
        assert!(error.next_step().is_some());
    }
    // Blocking one is fine.
    Policy::compile(&policy("", "169.254.169.254 metadata.google.internal", false)).unwrap();
}

#[test]
fn rules_that_cannot_be_read_are_named() {
    for rule in [
        "",
        "*",
        "*.",
        "*.*.example",
        "a.*.example",
        "*example.com",
        "http://example.com",
        "example.com/x",
        "10.0.0.0/8",
        "example.com:0",
        "example.com:99999",
        "example.com:*",
        "example.com:https",
        "a b",
        "user@example.com",
        "*.8.8.8.8",
        "[::1",
        "fe80::1%eth0",
        "256.1.1.1",
        "ex%61mple.com",
        "a..b",
    ] {
        let given = EgressPolicy { allow: vec![HostRule(rule.to_owned())], ..EgressPolicy::default() };
        let error = Policy::compile(&given).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rule:?}");
        assert!(error.message().contains(&format!("{rule:?}")), "{}", error.message());
        let blocked = EgressPolicy { block: given.allow, ..EgressPolicy::default() };
        assert!(Policy::compile(&blocked).is_err(), "{rule:?}");
    }
    assert!(judge(&EgressPolicy::default(), "example.com:443", PUBLIC).is_err());
}

#[test]
fn refusals_name_the_rule_and_the_way_out() {
    for (rules, block, asked, addresses, words) in [
        ("", "", "a.example:443", PUBLIC, &["No rule allows a.example", "--allow-host a.example "][..]),
        ("", "", "a.example:22", PUBLIC, &["--allow-host a.example:22 "]),
        ("a.example", "", "a.example:22", PUBLIC, &["No rule allows port 22", "--allow-host a.example:22 "]),
        ("*.example", "a.example", "a.example:443", PUBLIC, &["block rule \"a.example\""]),
        ("a.example", "93.184.216.34", "a.example:443", PUBLIC, &["block rule \"93.184.216.34\""]),
        ("a.example", "", "a.example:443", &["10.0.0.1"], &["leads to 10.0.0.1", "private", "name the address itself"]),
        ("10.0.0.1", "", "10.0.0.1:443", &[], &["allowPrivate"]),
    ] {
        let found = judge(&policy(rules, block, false), asked, addresses).unwrap_err();
        assert!(words.iter().all(|w| found.contains(w)), "{found}");
    }
}
