// SPDX-License-Identifier: Apache-2.0
use super::*;

#[test]
fn reads_a_config() {
    let text = br#"{"ignition": {"version": "3.4.0"},
  "storage": {"files": [{"path": "/etc/a", "mode": 420, "contents": {"source": "data:,x"}},
                        {"path": "/etc/b"}]}}"#;
    let parsed = parse(text, "test", Some(3)).unwrap();
    assert_eq!(parsed.version, Version::V3_4);
    assert_eq!(parsed.warnings, []);
    let files = &parsed.config.storage.files;
    assert_eq!(files[0].path, "/etc/a");
    let origin = files[1].origin;
    assert_eq!((origin.source, origin.index, origin.line, origin.column), (Some(3), 1, 3, 25));
}
