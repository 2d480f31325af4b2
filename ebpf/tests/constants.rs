//! The object for an endpoint differs from the general one in its constants alone.

use netloom_ebpf::{
    DATAPATH, datapath_with,
    layout::{Address, Config, mode},
};

#[test]
fn constants_are_written_in_their_place() {
    let config = Config {
        id: 0x1234_5678,
        mtu: 1500,
        pass: -1,
        mode: mode::VETH,
        v4_count: 1,
        v6_count: 0,
        reserved: 0,
        v4: [0x0100_010a; 8],
        v6: [Address([7; 4]); 8],
    };
    let object = datapath_with(config).unwrap();
    assert_eq!(object.len(), DATAPATH.len());
    let first = object.iter().zip(DATAPATH).position(|(new, old)| new != old).unwrap();
    // Its first byte is that of the id, 0 in the general object.
    assert_eq!(&object[first..first + Config::SIZE], config.to_bytes());
    assert_eq!(&DATAPATH[first..first + Config::SIZE], [0; Config::SIZE]);
    assert_eq!(&object[first + Config::SIZE..], &DATAPATH[first + Config::SIZE..]);
}
