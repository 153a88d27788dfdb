// SPDX-License-Identifier: Apache-2.0
//! What is fetched, and by which rules.

use super::*;

#[test]
fn resources() {
    let hash = |function: &str, digits: usize| format!("{function}-{}", "a".repeat(digits));
    let (sha512, sha256) = (hash("sha512", 128), hash("sha256", 64));
    let contents =
        |inner: &str| format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", \"contents\": {{{inner}}}}}]}}");
    table(
        contents,
        "$.storage.files.0.contents",
        &[
            ("\"source\": \"data:,x\", \"compression\": \"gzip\"", &[]),
            ("\"source\": \"data:,x\", \"compression\": \"\"", &[]),
            ("\"source\": \"data:,x\", \"compression\": \"xz\"", &[(Error, ".compression")]),
            ("\"compression\": \"gzip\"", &[]),
            ("\"source\": \"\"", &[]),
            (&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha512}\"}}"), &[]),
            (&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha256}\"}}"), &[]),
            (&format!("\"verification\": {{\"hash\": \"{sha256}\"}}"), &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"\"}", &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"md5-aa\"}", &[(Error, ".verification.hash")]),
            ("\"source\": \"data:,x\", \"verification\": {\"hash\": \"sha512-aa\"}", &[(Error, ".verification.hash")]),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}, {\"name\": \"B\"}]",
                &[],
            ),
            (
                "\"source\": \"data:,\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}]",
                &[(Error, ".httpHeaders")],
            ),
            ("\"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}]", &[(Error, ".httpHeaders")]),
            ("\"httpHeaders\": []", &[]),
            ("\"source\": \"http://h\", \"httpHeaders\": [{\"value\": \"b\"}]", &[(Error, ".httpHeaders.0.name")]),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A B\", \"value\": \"b\"}]",
                &[(Error, ".httpHeaders.0.name")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"\"}]",
                &[(Error, ".httpHeaders.0.value")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\\r\\nC: d\"}]",
                &[(Error, ".httpHeaders.0.value")],
            ),
            (
                "\"source\": \"http://h\", \"httpHeaders\": [{\"name\": \"A\", \"value\": \"b\"}, {\"name\": \"A\", \"value\": \"c\"}]",
                &[(Error, ".httpHeaders.1")],
            ),
        ],
    );
    let sha256 = contents(&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha256}\"}}"));
    since(&sha256, "$.storage.files.0.contents.verification.hash", |version| version >= Version::V3_1);
    let sha512 = contents(&format!("\"source\": \"data:,x\", \"verification\": {{\"hash\": \"{sha512}\"}}"));
    since(&sha512, "", |_| true);
}

#[test]
fn urls() {
    let source = |url: &str| {
        format!("\"storage\": {{\"files\": [{{\"path\": \"/a\", \"contents\": {{\"source\": \"{url}\"}}}}]}}")
    };
    let path = "$.storage.files.0.contents.source";
    for url in [
        "http://h/x",
        "HTTPS://u:p@h:1/x?y",
        "tftp://h/x",
        "s3://b/k",
        "s3://b/k?versionId=1",
        "data:,",
        "data:text/plain;base64,eA==",
    ] {
        since(&source(url), path, |_| true);
    }
    since(&source("gs://b/o"), path, |version| version >= Version::V3_2);
    for url in ["arn:aws:s3:::b/k", "arn:aws:s3:::b/k?versionId=1", "arn:aws:s3:us-east-1:1:accesspoint/n/object/k"] {
        since(&source(url), path, |version| version >= Version::V3_4);
    }
    for url in [
        "x",
        "/x",
        "ftp://h/x",
        "oem:///x",
        "http://",
        "http://h/%zz",
        "s3://b/k?versionId=",
        "s3://b/k?versionId",
        "arn:aws:s3:::b",
        "arn:aws:s3:b/k",
        "arn:aws:ec2:::b/k",
        "arn:aws:s3:us-east-1:1:accesspoint/n",
        "arn:aws:s3:::b/k?versionId=",
        "data:x",
        "data:,a b",
        "data:;base64,x",
    ] {
        since(&source(url), path, |_| false);
    }
}

#[test]
fn no_url_is_repeated_in_a_message() {
    for url in ["https://user:hunter2@h/%zz", "https://h:port/?hunter2", "hunter2", "data:hunter2", "ftp://hunter2@h/"]
    {
        let text = format!(
            "{{\"ignition\": {{\"version\": \"3.6.0\", \"config\": {{\"replace\": {{\"source\": \"{url}\"}}}}, \"proxy\": {{\"httpProxy\": \"{url}\"}}}}}}"
        );
        let refusal = parse(text.as_bytes(), "t", None).unwrap_err();
        assert!(!format!("{refusal}").contains("hunter2"), "{refusal}");
    }
}

#[test]
fn references_proxies_and_time_limits() {
    let ignition = |version: Version, inner: &str| {
        let text = format!("{{\"ignition\": {{\"version\": \"{version}\", {inner}}}}}");
        match parse(text.as_bytes(), "t", None) {
            Ok(parsed) => parsed.warnings,
            Err(Refusal::Invalid(said)) => said,
            Err(Refusal::Empty) => panic!(),
        }
    };
    let cases: &[(&str, &[(Severity, &str)])] = &[
        ("\"config\": {\"merge\": [{\"source\": \"http://a\"}, {\"source\": \"http://b\"}]}", &[]),
        (
            "\"config\": {\"merge\": [{\"source\": \"http://a\"}, {\"source\": \"http://a\"}]}",
            &[(Error, ".config.merge.1")],
        ),
        ("\"config\": {\"merge\": [{}]}", &[(Error, ".config.merge.0")]),
        ("\"config\": {\"merge\": [{\"source\": \"\"}]}", &[(Error, ".config.merge.0")]),
        ("\"config\": {\"replace\": {}}", &[]),
        ("\"security\": {\"tls\": {\"certificateAuthorities\": [{\"source\": \"data:,x\"}]}}", &[]),
        (
            "\"security\": {\"tls\": {\"certificateAuthorities\": [{}]}}",
            &[(Error, ".security.tls.certificateAuthorities.0")],
        ),
        ("\"proxy\": {\"httpProxy\": \"http://p:1\", \"httpsProxy\": \"https://p\", \"noProxy\": [\"a\"]}", &[]),
        ("\"proxy\": {\"httpsProxy\": \"http://p\"}", &[(Warning, ".proxy.httpsProxy")]),
        ("\"proxy\": {\"httpProxy\": \"ftp://p\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"httpProxy\": \"p:1\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"httpProxy\": \"\"}", &[(Error, ".proxy.httpProxy")]),
        ("\"proxy\": {\"noProxy\": [\"a\", \"a\"]}", &[(Error, ".proxy.noProxy.1")]),
        ("\"timeouts\": {\"httpTotal\": 0, \"httpResponseHeaders\": 0}", &[]),
        ("\"timeouts\": {\"httpTotal\": -1}", &[(Error, ".timeouts.httpTotal")]),
        ("\"timeouts\": {\"httpResponseHeaders\": -1}", &[(Warning, ".timeouts.httpResponseHeaders")]),
    ];
    for (inner, expected) in cases {
        let got: Vec<_> = ignition(Version::LATEST, inner).into_iter().map(|d| (d.severity, d.place.path)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(severity, path)| (*severity, format!("$.ignition{path}"))).collect();
        assert_eq!(got, expected, "{inner}");
    }
    for version in Version::ALL {
        let missing = ignition(version, "\"config\": {\"merge\": [{}]}");
        assert_eq!(missing.is_empty(), version < Version::V3_1, "{version}");
        let unfounded = ignition(
            version,
            &format!("\"config\": {{\"replace\": {{\"verification\": {{\"hash\": \"sha512-{}\"}}}}}}", "a".repeat(128)),
        );
        assert_eq!(unfounded.is_empty(), version < Version::V3_1, "{version}");
    }
}

#[test]
fn a_header_line_in_place_of_a_name_is_not_repeated() {
    let text =
        br#"{"ignition": {"version": "3.4.0"}, "storage": {"files": [{"path": "/a", "contents": {"source": "http://h",
        "httpHeaders": [{"name": "Authorization: Bearer s3cr3t", "value": "x"}]}}]}}"#;
    let text = parse(text, "test", None).unwrap_err().to_string();
    assert!(text.contains("\"Authorization\"") && !text.contains("s3cr3t"), "{text}");
}
