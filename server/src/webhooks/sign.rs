//! The signature of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`.
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::secret::Secret;

/// Value of the header `webhook-signature`: one signature a secret, separated by spaces.
///
/// `timestamp` is in seconds since 1970.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> String {
    let one = |secret: &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes any key");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;

    /// The vector that the reference implementations publish.
    #[test]
    fn e03_the_published_vector_is_met() {
        let key = STANDARD.decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signed = signatures(
            &[Secret::of(&key)],
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            body,
        );
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    /// RFC 4231, test cases 2 and 6 (a key longer than a block), by way of the parts that we sign.
    #[test]
    fn e03_hmac_is_that_of_rfc_4231() {
        let mac = |key: &[u8], text: &[u8]| {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            mac.update(text);
            hex::encode(mac.finalize().into_bytes())
        };
        assert_eq!(
            mac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            mac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    fn verify(secret: &Secret, id: &str, timestamp: i64, signature: &str, body: &[u8]) -> bool {
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        Webhook::new(&secret.reveal())
            .unwrap()
            .verify(body, &headers)
            .is_ok()
    }

    #[test]
    fn e04_old_and_new_secret_both_verify() {
        let (new, old, stranger) = (Secret::mint(), Secret::mint(), Secret::mint());
        let now = jiff::Timestamp::now().as_second();
        let signed = signatures(&[new.clone(), old.clone()], "msg_1", now, b"{}");
        assert_eq!(signed.split(' ').count(), 2);
        assert!(verify(&new, "msg_1", now, &signed, b"{}") && verify(&old, "msg_1", now, &signed, b"{}"));
        assert!(!verify(&stranger, "msg_1", now, &signed, b"{}"));
        assert!(!verify(&new, "msg_1", now, &signed, b"{ }"));
        assert!(!verify(&new, "msg_2", now, &signed, b"{}"));
    }

    proptest! {
        #[test]
        fn e03_the_official_library_verifies_whatever_is_signed(
            id in "msg_[0-9a-f]{32}", body in ".{0,300}", key in proptest::collection::vec(any::<u8>(), 24..=64),
        ) {
            let now = jiff::Timestamp::now().as_second();
            let secret = Secret::of(&key);
            let signed = signatures(&[Secret::mint(), secret.clone()], &id, now, body.as_bytes());
            prop_assert!(verify(&secret, &id, now, &signed, body.as_bytes()));
            let official = Webhook::from_bytes(key).unwrap().sign(&id, now, body.as_bytes()).unwrap();
            prop_assert!(signed.ends_with(&official));
        }
    }
}
