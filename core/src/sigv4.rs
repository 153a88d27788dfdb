// SPDX-License-Identifier: Apache-2.0
//! Signatures of requests to S3: AWS Signature Version 4 (Amazon S3 API Reference, "Authenticating Requests: Using the
//! Authorization Header"), for requests without a body.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::url::Url;

/// Who asks. It has no `Debug`: it is a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    /// The key's name.
    pub key: String,
    /// The key.
    pub secret: String,
    /// The token that belongs to a temporary key.
    pub token: Option<String>,
}

/// The headers that sign a GET of a URL whose path and query are escaped as S3 has it. `time` is `YYYYMMDDTHHMMSSZ`, in UTC.
pub fn sign(url: &Url, region: &str, credentials: &Credentials, time: &str) -> Vec<(String, String)> {
    let day = time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let mut headers: Vec<(String, String)> =
        alloc::vec![("x-amz-content-sha256".into(), hash(b"")), ("x-amz-date".into(), time.into())];
    if let Some(token) = &credentials.token {
        headers.push(("x-amz-security-token".into(), token.clone()));
    }
    let mut signed = String::from("host");
    let mut lines = format!("host:{}\n", url.host_header());
    for (name, value) in &headers {
        signed.push(';');
        signed.push_str(name);
        for part in [name, ":", value.trim(), "\n"] {
            lines.push_str(part);
        }
    }
    // One parameter at most, so there is nothing to sort.
    let (path, query) = (url.path(), url.query().unwrap_or_default());
    let request = format!("GET\n{path}\n{query}\n{lines}\n{signed}\n{}", hash(b""));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(request.as_bytes()));
    let mut key = hmac(format!("AWS4{}", credentials.secret).as_bytes(), day.as_bytes());
    for part in [region, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    let signature = HEXLOWER.encode(&hmac(&key, text.as_bytes()));
    let key = &credentials.key;
    let value = format!("AWS4-HMAC-SHA256 Credential={key}/{scope},SignedHeaders={signed},Signature={signature}");
    headers.push(("authorization".into(), value));
    headers
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let hashed;
    let key = if key.len() > BLOCK {
        hashed = Sha256::digest(key);
        &hashed[..]
    } else {
        key
    };
    let pad = |with: u8| {
        let mut pad = [with; BLOCK];
        for (byte, key) in pad.iter_mut().zip(key) {
            *byte ^= key;
        }
        pad
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmacs_are_those_of_the_rfc() {
        // RFC 4231, test cases 2 and 6.
        assert_eq!(
            HEXLOWER.encode(&hmac(b"Jefe", b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            HEXLOWER.encode(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    /// The example "GET Bucket Lifecycle" of S3's documentation, with the key and the signature that stand there.
    #[test]
    fn a_request_is_signed_as_documented() {
        let mut credentials = Credentials {
            key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/?lifecycle=").unwrap();
        let headers = sign(&url, "us-east-1", &credentials, "20130524T000000Z");
        let [content, date, authorization] = &headers[..] else { panic!("{headers:?}") };
        assert_eq!(content.1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(*date, ("x-amz-date".into(), "20130524T000000Z".into()));
        assert_eq!(authorization.0, "authorization");
        assert_eq!(
            authorization.1,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        credentials.token = Some("token".into());
        let headers = sign(&url, "us-east-1", &credentials, "20130524T000000Z");
        assert_eq!(headers[2], ("x-amz-security-token".into(), "token".into()));
        assert!(headers[3].1.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
    }
}
