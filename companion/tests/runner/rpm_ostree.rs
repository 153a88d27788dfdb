// SPDX-License-Identifier: Apache-2.0
//! Arguments only: rpm-ostree isn't packaged where these tests run. A program of its name stands in for it, which does what
//! `rpm-ostree rollback` does by its sources.

use fledge_companion::admin::Admin;
use fledge_companion::programs::Programs;

use crate::machine::System;

/// A list as `ostree admin status` prints it, in a file that both programs work on.
fn stand_ins(system: &System, list: &str, set_default: bool) -> Admin {
    let file = system.path().join("list");
    std::fs::write(&file, list).unwrap();
    let help = if set_default { "  set-default   Make deployment INDEX the default" } else { "  status" };
    system.program(
        "ostree",
        &format!(
            "case $* in 'admin --help') echo '{help}' ;; 'admin status') cat {0} ;; \
             'admin set-default '*) n=$(($3 + 1)); {{ sed -n ${{n}}p {0}; sed ${{n}}d {0}; }} > {0}.new; mv {0}.new {0} ;; *) exit 64 ;; esac",
            file.display()
        ),
    );
    // The one after the running one comes first, or else the running one.
    system.program(
        "rpm-ostree",
        &format!(
            "[ \"$*\" = rollback ] || exit 64; r=$(sed -n '/^\\*/=' {0}); c=$(wc -l < {0}); n=$((r + 1)); [ $n -le $c ] || n=$r; \
             {{ sed -n ${{n}}p {0}; sed ${{n}}d {0}; }} > {0}.new; mv {0}.new {0}",
            file.display()
        ),
    );
    Admin { programs: Programs::within([system.path().join("bin")]), sysroot: None }
}

fn first(admin: &Admin) -> String {
    admin.list().unwrap()[0].id.deployment().to_owned()
}

#[test]
fn one_call_where_that_does_it() {
    let system = System::new(&[]);
    let admin = stand_ins(&system, "* nestos aa.0\n  nestos bb.0\n", true);
    let id = admin.list().unwrap()[1].id.clone();
    assert!(admin.set_default(&id).unwrap());
    assert_eq!(first(&admin), "bb.0");
    assert_eq!(system.calls("rpm-ostree"), ["rpm-ostree rollback"]);
}

#[test]
fn with_an_older_deployment_set_default_where_it_is_there_and_else_two_calls() {
    let list = "  nestos aa.0 (pending)\n* nestos bb.0\n  nestos cc.0 (rollback)\n";
    let system = System::new(&[]);
    let admin = stand_ins(&system, list, true);
    let id = admin.list().unwrap()[1].id.clone();
    assert!(admin.set_default(&id).unwrap());
    assert!(first(&admin) == "bb.0" && system.calls("rpm-ostree").is_empty());
    let system = System::new(&[]);
    let admin = stand_ins(&system, list, false);
    assert!(admin.set_default(&id).unwrap());
    assert_eq!(first(&admin), "bb.0");
    assert_eq!(system.calls("rpm-ostree").len(), 2);
}

#[test]
fn a_command_that_did_something_else_is_no_success() {
    let system = System::new(&[]);
    let admin = stand_ins(&system, "* nestos aa.0\n  nestos bb.0\n", true);
    system.program("rpm-ostree", "exit 0");
    let id = admin.list().unwrap()[1].id.clone();
    assert!(admin.set_default(&id).unwrap_err().why.contains("another one is first"));
    system.program("rpm-ostree", "echo 'error: Transaction in progress' >&2; exit 1");
    assert!(admin.set_default(&id).unwrap_err().why.contains("Transaction in progress"));
}
