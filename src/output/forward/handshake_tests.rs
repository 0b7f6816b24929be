use super::*;
use crate::event::msgpack::write_bin;
use proptest::prelude::*;

// A handshake captured from Fluentd 1.18: shared key `sekret`, user `u`, password `p`.
const NONCE: &str = "b91b2d70fcae1fdd13d72317d884087f";
const AUTH: &str = "c806dd92b5ae3eb0d4a74ee99c2bc40f";
const SALT: &str = "1674970fe332dab54721fdcf1ae1d28b";
const D1: &str = "225ea0c70a5e6a9cfeab19947568de32121d7e218ad1dbda06f0f8fdd46977fb3a9b94f2f735800e0abf20d5b869569ed604fbdbe532cd5745bd0a400cbf0254";
const D2: &str = "d89e8d0c3d57ca84b220bdeebc0768ebcc985901d9198cfde5fadb9145f67547cfa4e3c5c18f98e46e65d325fcd50e9fac4825b9adb60fce057f50ebf50f7021";
const D3: &str = "b4f0a4ca87a0cb000624aa58ba31f6c8dd20ded565082b5376a4070f7f16adc51dfe8d4422be1229f74e7a8c09e5f9c533bae8b4dc02c267f18eb0bf28ba48ef";

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn us() -> Credentials {
    Credentials {
        self_hostname: "client".into(),
        shared_key: Secret("sekret".into()),
        username: "u".into(),
        password: Secret("p".into()),
        salt: SALT.into(),
    }
}

fn helo_message(auth: &[u8]) -> Vec<u8> {
    let mut message = vec![0x92];
    write_str(&mut message, b"HELO");
    message.push(0x83);
    write_str(&mut message, b"nonce");
    write_bin(&mut message, &bytes(NONCE));
    write_str(&mut message, b"auth");
    write_bin(&mut message, auth);
    write_str(&mut message, b"keepalive");
    message.push(0xc3);
    message
}

fn pong_message(ok: bool, reason: &str, hostname: &str, digest: &str) -> Vec<u8> {
    let mut message = vec![0x95];
    write_str(&mut message, b"PONG");
    message.push(if ok { 0xc3 } else { 0xc2 });
    for text in [reason, hostname, digest] {
        write_str(&mut message, text.as_bytes());
    }
    message
}

fn helo() -> Helo {
    read_helo(&helo_message(&bytes(AUTH)))
        .expect("well formed")
        .expect("whole")
}

#[test]
fn ping_carries_the_digests_that_fluentd_computes() {
    let mut expected = vec![0x96];
    for text in ["PING", "client", SALT, D1, "u", D2] {
        write_str(&mut expected, text.as_bytes());
    }
    assert_eq!(ping(&us(), &helo()), expected);
}

#[test]
fn pong_of_the_captured_server_is_accepted() {
    let pong = pong_message(true, "", "sink", D3);
    assert_eq!(check_pong(&us(), &helo(), &pong), Ok(Some(())));
}

#[test]
fn an_empty_auth_sends_no_user() {
    let helo = read_helo(&helo_message(b""))
        .expect("well formed")
        .expect("whole");
    assert!(ping(&us(), &helo).ends_with(&[0xa0, 0xa0]));
}

#[test]
fn refusals_say_why() {
    let judge = |pong: &[u8]| check_pong(&us(), &helo(), pong);
    assert_eq!(
        judge(&pong_message(false, "shared_key mismatch", "", "")),
        Err(Refused::ByServer("shared_key mismatch".into()))
    );
    assert_eq!(
        judge(&pong_message(true, "", "client", D3)),
        Err(Refused::SameHostname)
    );
    assert_eq!(
        judge(&pong_message(true, "", "sink", D1)),
        Err(Refused::SharedKey)
    );
    assert_eq!(judge(b"HTTP/1.1 400"), Err(Refused::NotA("PONG")));
}

proptest! {
    #[test]
    fn a_message_cut_anywhere_waits_for_the_rest(cut in any::<prop::sample::Index>()) {
        let whole = helo_message(&bytes(AUTH));
        let part = &whole[..cut.index(whole.len())];
        prop_assert_eq!(read_helo(part), Ok(None));
        let whole = pong_message(true, "", "sink", D3);
        let part = &whole[..cut.index(whole.len())];
        prop_assert_eq!(check_pong(&us(), &helo(), part), Ok(None));
    }

    #[test]
    fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_helo(&noise);
        let _ = check_pong(&us(), &helo(), &noise);
    }
}
