//! Which addresses may be connected to, whatever name led there. Resolves nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sandmill_domain::Origin;

/// What is not of the public Internet, as network and prefix length: IANA's special-purpose registry
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>) with multicast and what is reserved, and one address more.
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // The platform's own of Azure: it answers each virtual machine with its secrets.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The part of IPv6 that is given out to hosts.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What within that part is not: IETF's protocols with Teredo, documentation, 6to4.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Behind it lies the IPv4 Internet: RFC 6052.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether a plugin may be connected to this address: it is of the public Internet, or the host lists itself, and not a name.
pub(super) fn may_connect(address: SocketAddr, host: &[Origin]) -> bool {
    let listed =
        |origin: &Origin| origin.address() == Some(address.ip()) && origin.port.is_none_or(|port| port == address.port());
    is_public(address.ip()) || host.iter().any(listed)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|network| within_v4(address, *network))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let nat64 = within_v6(address, NAT64).then(|| Ipv4Addr::from_octets(last_four(address)));
    match address.to_ipv4_mapped().or(nat64) {
        Some(embedded) => is_public_v4(embedded),
        None => within_v6(address, GLOBAL_V6) && !SPECIAL_V6.iter().any(|network| within_v6(address, *network)),
    }
}

fn within_v4(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

fn within_v6(address: Ipv6Addr, (network, prefix): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
}

fn last_four(address: Ipv6Addr) -> [u8; 4] {
    let [.., a, b, c, d] = address.octets();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::1",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::192.168.1.1",
            "64:ff9b::8:8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn a_special_address_is_open_only_if_the_host_lists_itself() {
        let cases = [
            ("10.0.0.5:80", &[][..], false),
            ("10.0.0.5:80", &["10.0.0.5:80"], true),
            ("10.0.0.5:80", &["10.0.0.5"], true),
            ("10.0.0.5:80", &["10.0.0.5:81"], false),
            ("10.0.0.5:80", &["10.0.0.6:80"], false),
            ("127.0.0.1:80", &["localhost:80", "*:80", "*"], false),
            ("127.0.0.1:80", &["localhost", "127.0.0.1:80"], true),
            ("[::1]:80", &["127.0.0.1:80"], false),
            ("[::1]:80", &["[::1]:80"], true),
            ("[::ffff:127.0.0.1]:80", &["127.0.0.1:80"], false),
            ("1.1.1.1:80", &[], true),
        ];
        for (address, host, expected) in cases {
            let host: Vec<Origin> = host.iter().map(|origin| origin.parse().unwrap()).collect();
            assert_eq!(may_connect(address.parse().unwrap(), &host), expected, "{address} {host:?}");
        }
    }
}
