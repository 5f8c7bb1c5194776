//! Programs of two releases understand each other while a cluster is upgraded.
//!
//! Messages are recorded as they went over the wire and never rewritten: what a release sent, later ones read.

use krypton_discovery::{Protocol, VersionedRoute, wire};
use prost::Message as _;

/// What gateways and controllers of before `Report` sent, in hexadecimal.
mod before_report {
    pub(crate) const HELLO: &str =
        "0a120a09676174657761792d301205302e312e3012180a046e732f61121007070707070707070707070707070707";
    pub(crate) const NACK: &str = concat!(
        "1802222f0a046e732f621210080808080808080808080808080808081a15706f72743a2030206973206e6f742061",
        "20706f7274"
    );
    pub(crate) const RESPONSE: &str = concat!(
        "080112540a046e732f611210070707070707070707070707070707071a3a08021001180220903f2a042f6d637032",
        "0808e0a71218b0ea01380840e80752100a040a00000110903f1a057569642d3162080a040a60000110501a076e73",
        "2f676f6e652001"
    );

    /// The response as its readers knew it.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct DeltaRoutesResponse {
        #[prost(uint64, tag = "1")]
        pub(crate) nonce: u64,
        #[prost(message, repeated, tag = "2")]
        pub(crate) upserts: Vec<krypton_discovery::wire::RouteResource>,
        #[prost(string, repeated, tag = "3")]
        pub(crate) removed: Vec<String>,
        #[prost(bool, tag = "4")]
        pub(crate) more: bool,
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

#[test]
fn an_older_gateway_is_understood() {
    let hello = wire::DeltaRoutesRequest::decode(bytes(before_report::HELLO).as_slice()).unwrap();
    assert_eq!(hello.node.unwrap().id, "gateway-0");
    assert_eq!(hello.initial_resource_versions[0].name, "ns/a");
    assert_eq!(hello.initial_resource_versions[0].version, [7; 16]);
    let nack = wire::DeltaRoutesRequest::decode(bytes(before_report::NACK).as_slice()).unwrap();
    assert_eq!((nack.response_nonce, nack.rejected[0].name.as_str()), (2, "ns/b"));
    assert_eq!(nack.rejected[0].reason, "port: 0 is not a port");
}

#[test]
fn an_older_controller_is_understood() {
    let response = wire::DeltaRoutesResponse::decode(bytes(before_report::RESPONSE).as_slice()).unwrap();
    assert_eq!((response.nonce, response.more, response.removed), (1, true, vec!["ns/gone".to_owned()]));
    assert_eq!(response.leader, "", "it does not know who leads");
    let route = VersionedRoute::try_from(response.upserts[0].clone()).unwrap();
    assert_eq!((route.key().as_str(), route.route().protocol), ("ns/a", Protocol::Mcp));
    assert_eq!(route.route().endpoints[0].address(), "10.0.0.1:8080".parse().unwrap());
}

#[test]
fn an_older_gateway_understands_what_has_more_fields() {
    let mut response = wire::DeltaRoutesResponse::decode(bytes(before_report::RESPONSE).as_slice()).unwrap();
    response.leader = "10.0.0.9:9090".to_owned();
    let read = before_report::DeltaRoutesResponse::decode(response.encode_to_vec().as_slice()).unwrap();
    assert_eq!((read.nonce, read.more, read.removed), (1, true, vec!["ns/gone".to_owned()]));
    assert_eq!(read.upserts, response.upserts);
}
