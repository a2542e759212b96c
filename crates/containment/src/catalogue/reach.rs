//! E19: sockets and addresses outside of the sandbox.

use cove_core::Control;

use super::{Probe, Proof, Variant, other};

/// What an address answers that no way leads to.
const NOWHERE: &[&str] = &["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EACCES", "EPERM", "EAFNOSUPPORT"];

/// Sockets of services that do what they are told.
const SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/journal/socket",
    "/run/systemd/notify",
    "/run/snapd.socket",
    "/run/user/0/bus",
    "/run/user/1000/bus",
    "/run/user/1000/gnupg/S.gpg-agent",
    "/run/user/1000/podman/podman.sock",
    "/run/udev/control",
    "/run/lvm/lvmpolld.socket",
    "/tmp/.X11-unix/X0",
    "/run/user/1000/wayland-0",
    "/dev/log",
    "/run/cove/control.sock",
];

pub(super) fn variants() -> Vec<Variant> {
    [sockets(), addresses(), neighbour()].concat()
}

fn reach(id: String, what: String, control: Control, words: &[&str]) -> Variant {
    Variant::new(id, what, control, words)
}

fn sockets() -> Vec<Variant> {
    let mut out = Vec::new();
    for path in SOCKETS {
        let id = path.trim_start_matches('/').replace(['/', '.'], "-");
        let variant =
            reach(format!("E19-{id}"), format!("talk to {path}"), Control::IsolationContainer, &["connect-unix", path]);
        let held = &["ENOENT", "EACCES", "EPERM", "ENOTDIR"];
        out.push(variant.held(held).proofs([other(&["connect-unix", "{socket}"])]).weight(5));
    }
    let isolated = |id: &str, what: &str, words: &[&str]| {
        reach(format!("E19-{id}"), what.to_owned(), Control::IsolationContainer, words).weight(5)
    };
    out.push(
        isolated("host-socket", "talk to a socket of the host by its path", &["connect-unix", "{socket}"])
            .held(&["ENOENT", "EACCES"]),
    );
    out.push(
        isolated("host-abstract", "talk to an abstract socket of the host", &["connect-abstract", "{abstract}"])
            .held(&["ECONNREFUSED", "EPERM"]),
    );
    out.push(
        isolated("abstract-names", "see the abstract sockets of the host", &["abstract-names", "{abstract}"])
            .held(&["NOTHING", "ENOENT"])
            .weight(2),
    );
    for name in [
        "/tmp/.X11-unix/X0",
        "/org/kernel/linux/storage/multipathd",
        "/containerd-shim/cove.sock",
        "ISCSIADM_ABSTRACT_NAMESPACE",
    ] {
        let id = name.trim_start_matches('/').replace(['/', '.'], "-");
        let variant =
            isolated(&format!("abstract-{id}"), "talk to a known abstract socket", &["connect-abstract", name]);
        out.push(variant.held(&["ECONNREFUSED", "EPERM"]).proofs([other(&["connect-abstract", "{abstract}"])]));
    }
    for root in ["/run", "/var/run", "/tmp", "/home", "/root", "/var/lib", "/mnt"] {
        let id = root.trim_start_matches('/').replace('/', "-");
        let variant = isolated(&format!("search-{id}"), "find any socket of the host", &["sockets-below", root]);
        out.push(variant.held(&["NOTHING"]).proofs([other(&["sockets-below", "{stage}"])]));
    }
    for (id, variable) in [
        ("ssh-agent", "SSH_AUTH_SOCK"),
        ("docker-host", "DOCKER_HOST"),
        ("bus", "DBUS_SESSION_BUS_ADDRESS"),
        ("secret", "{secretname}"),
    ] {
        let variant = isolated(
            &format!("variable-{id}"),
            "find the way to a socket, or a secret, in a variable",
            &["variable", variable],
        );
        out.push(variant.held(&["NOTHING"]).proofs([other(&["variable", "PATH"])]).probe(Probe::Secrets));
    }
    out
}

fn addresses() -> Vec<Variant> {
    let mut out = Vec::new();
    let connect = |id: String, what: String, address: &str| {
        reach(id, what, Control::NetworkNone, &["connect", address])
            .held(NOWHERE)
            .proofs([other(&["connect", "{tcp}"])])
    };
    for (cloud, address) in [
        ("common", "169.254.169.254:80"),
        ("ipv6", "[fd00:ec2::254]:80"),
        ("containers", "169.254.170.2:80"),
        ("alibaba", "100.100.100.200:80"),
        ("azure", "168.63.129.16:80"),
        ("oracle", "192.0.0.192:80"),
        ("mapped", "[::ffff:169.254.169.254]:80"),
    ] {
        let variant =
            connect(format!("E19-metadata-{cloud}"), format!("ask {address} for the machine's secrets"), address);
        out.push(variant.weight(5).probe(Probe::Metadata));
    }
    for address in [
        "10.0.0.1:80",
        "172.16.0.1:80",
        "172.17.0.1:2375",
        "192.168.0.1:80",
        "192.168.1.1:443",
        "100.64.0.1:80",
        "198.18.0.1:80",
        "169.254.1.1:80",
        "[fe80::1]:80",
        "[fc00::1]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
    ] {
        let id = address.replace(['.', ':', '[', ']'], "-").trim_matches('-').to_owned();
        let variant = connect(format!("E19-private-{id}"), format!("reach the private address {address}"), address);
        // Loopback-less sandboxes know no way; some of these are refused before that.
        out.push(
            variant
                .held(&["ENETUNREACH", "EHOSTUNREACH", "EADDRNOTAVAIL", "EINVAL", "EACCES", "EPERM"])
                .weight(4)
                .probe(Probe::PrivateNetwork),
        );
    }
    for address in ["192.0.2.1:443", "[2001:db8::1]:443"] {
        let id = if address.starts_with('[') { "6" } else { "4" };
        out.push(connect(format!("E19-public-{id}"), "reach a public address past the door".into(), address).weight(4));
    }
    for (id, address) in [
        ("dns", "192.0.2.53:53"),
        ("quic", "192.0.2.1:443"),
        ("multicast", "224.0.0.251:5353"),
        ("ntp", "192.0.2.2:123"),
    ] {
        let words = ["send", address];
        let variant =
            reach(format!("E19-datagram-{id}"), format!("send a datagram to {address}"), Control::NetworkNone, &words);
        out.push(variant.held(NOWHERE).proofs([other(&["send", "{tcp}"])]).weight(4));
    }
    let host = reach(
        "E19-host-loopback".into(),
        "reach a port of the host's loopback".into(),
        Control::NetworkNone,
        &["connect", "{tcp}"],
    );
    out.push(host.held(&["ECONNREFUSED", "ENETUNREACH"]).weight(5).probe(Probe::PrivateNetwork));
    let mapped = reach(
        "E19-host-mapped".into(),
        "reach it by a mapped address".into(),
        Control::NetworkNone,
        &["connect", "{tcpmapped}"],
    );
    out.push(mapped.held(&["ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL"]).weight(5).probe(Probe::PrivateNetwork));
    out
}

fn neighbour() -> Vec<Variant> {
    let row = |id: &str, what: &str, words: &[&str], held: &'static [&'static str]| {
        let variant = reach(format!("E19-neighbour-{id}"), what.to_owned(), Control::IsolationContainer, words);
        variant.held(held).proofs([Proof::Neighbour]).weight(5).probe(Probe::OtherSandbox)
    };
    vec![
        row(
            "abstract",
            "talk to an abstract socket of another sandbox",
            &["connect-abstract", "{neighbour}"],
            &["ECONNREFUSED", "EPERM"],
        ),
        row("port", "reach a port of another sandbox", &["connect", "127.0.0.1:{neighbourport}"], &["ECONNREFUSED"]),
        row("names", "see the sockets of another sandbox", &["abstract-names", "{neighbour}"], &["NOTHING", "ENOENT"]),
        row("process", "see the processes of another sandbox", &["find", "cmdline", "{neighbourmark}"], &["NOTHING"]),
        row(
            "file",
            "read the scratch files of another sandbox",
            &["flag", "/tmp/neighbour", "{neighbourmark}"],
            &["ENOENT"],
        ),
        row(
            "shared-memory",
            "read the shared memory of another sandbox",
            &["flag", "/dev/shm/neighbour", "{neighbourmark}"],
            &["ENOENT"],
        ),
    ]
}
