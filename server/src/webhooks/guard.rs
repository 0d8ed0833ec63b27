//! Which addresses may be dialled. The check is made on the address that the connection goes to: on the literal in
//! a URL, and on every answer of the resolver that the connector uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 that is not the public internet, from the IANA special-purpose registry.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
const NOT_PUBLIC_V4: &[Ipv4Net] = &[
    v4([0, 0, 0, 0], 8),       // this host, this network
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // carrier-grade NAT
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, where clouds put their metadata
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // 6to4 relays
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// The only IPv6 that is routed between strangers; unique local, link-local, multicast, NAT64, loopback and mapped
/// addresses lie outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Inside of it, what leads elsewhere. <https://www.iana.org/assignments/iana-ipv6-special-registry>
const NOT_PUBLIC_V6: &[Ipv6Net] = &[
    v6([0x2001, 0, 0], 23),         // protocol assignments: Teredo, benchmarks, ORCHID
    v6([0x2001, 0xdb8, 0], 32),     // documentation
    v6([0x2002, 0, 0], 16),         // 6to4: carries an IPv4 address
    v6([0x2620, 0x4f, 0x8000], 48), // AS112 sinks
    v6([0x3fff, 0, 0], 20),         // documentation
];

const fn v4(octets: [u8; 4], bits: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(segments: [u16; 3], bits: u8) -> Ipv6Net {
    let [a, b, c] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// Decides over addresses.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    allow_loopback: bool,
}

impl Guard {
    pub fn new(allow_loopback: bool) -> Self {
        Self { allow_loopback }
    }

    /// Whether loopback may be dialled.
    pub fn allows_loopback(self) -> bool {
        self.allow_loopback
    }

    /// Whether this address may be dialled.
    pub fn allows(self, address: IpAddr) -> bool {
        // `::ffff:127.0.0.1` reaches what 127.0.0.1 reaches.
        let address = address.to_canonical();
        if address.is_loopback() {
            return self.allow_loopback;
        }
        match address {
            IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
            IpAddr::V6(address) => {
                GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFUSED: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "169.254.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "::7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "fe80::a9fe:a9fe",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "::ffff:0:127.0.0.1",
        "4000::1",
        "1fff:ffff::1",
    ];
    const ALLOWED: &[&str] = &[
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2001:4860:4860::8888",
        "2003::1",
    ];

    #[test]
    fn e09_addresses_that_are_not_public_are_refused() {
        for text in REFUSED {
            assert!(!Guard::new(false).allows(text.parse().unwrap()), "{text}");
        }
        for text in ALLOWED {
            assert!(Guard::new(false).allows(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn e09_loopback_alone_opens_in_dev() {
        let opened: Vec<&&str> = REFUSED
            .iter()
            .filter(|text| Guard::new(true).allows(text.parse().unwrap()))
            .collect();
        assert_eq!(
            opened,
            [&"127.0.0.1", &"127.255.255.254", &"::1", &"::ffff:127.0.0.1"]
        );
    }

    proptest! {
        #[test]
        fn e09_a_mapped_address_is_what_it_maps(address: u32) {
            let plain = Ipv4Addr::from(address);
            for allow in [false, true] {
                let guard = Guard::new(allow);
                prop_assert_eq!(guard.allows(plain.into()), guard.allows(plain.to_ipv6_mapped().into()));
            }
        }
    }
}
