// SPDX-License-Identifier: Apache-2.0
//! Arguments only: rpm-ostree isn't packaged where these tests run. A program of its name stands in for it, which does what
//! `rpm-ostree rollback` does by its sources. So does one for OSTree, whose lists can then be any.

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
             'admin set-default '*) n=$(($3 + 1)); {{ sed -n ${{n}}p {0}; sed ${{n}}d {0}; }} > {0}.new; mv {0}.new {0} ;; \
             'admin undeploy '*) sed -i $(($3 + 1))d {0} ;; 'admin pin '*) sed -i \"$(($3 + 1))a \\    Pinned: yes\" {0} ;; *) exit 64 ;; esac",
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
    let admin = stand_ins(&system, "* nestos aa.0\n  nestos bb.0\n", false);
    system.program("rpm-ostree", "exit 0");
    let id = admin.list().unwrap()[1].id.clone();
    assert!(admin.set_default(&id).unwrap_err().why.contains("another one is first"));
    system.program("rpm-ostree", "echo 'error: Transaction in progress' >&2; exit 1");
    assert!(admin.set_default(&id).unwrap_err().why.contains("Transaction in progress"));
}

#[test]
fn where_rpm_ostree_fails_ostree_does_it() {
    for rpm_ostree in ["exit 0", "echo 'error: Could not activate remote peer' >&2; exit 1"] {
        let system = System::new(&[]);
        let admin = stand_ins(&system, "* nestos aa.0\n  nestos bb.0\n", true);
        system.program("rpm-ostree", rpm_ostree);
        let id = admin.list().unwrap()[1].id.clone();
        assert!(admin.set_default(&id).unwrap());
        assert_eq!(first(&admin), "bb.0");
    }
}

/// Zincati stages with the finalization locked. What is staged becomes the default at the end of the boot, whatever is the default until then.
#[test]
fn a_staged_update_is_dropped() {
    for staged in ["(staged)", "(finalization locked)"] {
        let list = format!("  nestos dd.0 {staged}\n* nestos aa.0\n  nestos bb.0 (rollback)\n");
        for (wanted, set_default, rolled) in
            [("aa.0", true, 0), ("aa.0", false, 0), ("bb.0", true, 1), ("bb.0", false, 1)]
        {
            let system = System::new(&[]);
            let admin = stand_ins(&system, &list, set_default);
            let id =
                admin.list().unwrap().into_iter().map(|line| line.id).find(|id| id.deployment() == wanted).unwrap();
            assert!(admin.set_default(&id).unwrap());
            assert_eq!(first(&admin), wanted, "{staged}");
            assert!(admin.list().unwrap().iter().all(|line| !line.staged), "{staged}");
            assert_eq!(system.calls("rpm-ostree").len(), rolled);
        }
        // What can't be done drops nothing.
        let system = System::new(&[]);
        let admin = stand_ins(&system, &format!("  n dd.0 {staged}\n* n aa.0\n  m bb.0\n"), false);
        let id = admin.list().unwrap()[2].id.clone();
        assert!(admin.set_default(&id).is_err());
        assert!(admin.list().unwrap()[0].staged);
    }
}

#[test]
fn a_pin_that_went_to_another_one_is_no_success() {
    let system = System::new(&[]);
    let list = "* nestos aa.0\n  nestos bb.0\n";
    let admin = stand_ins(&system, list, true);
    let ids: Vec<_> = admin.list().unwrap().into_iter().map(|line| line.id).collect();
    admin.pin(&ids[1], true).unwrap();
    assert_eq!(admin.list().unwrap().iter().map(|line| line.pinned).collect::<Vec<_>>(), [false, true]);
    // Another program deploys between the list and the command: the index is another one's.
    let file = system.path().join("list");
    std::fs::write(&file, list).unwrap();
    let script = std::fs::read_to_string(system.path().join("bin/ostree")).unwrap();
    let script =
        script.replace("'admin pin '*) ", &format!("'admin pin '*) sed -i '1i \\  nestos cc.0' {}; ", file.display()));
    system.program("ostree", script.split_once('\n').unwrap().1);
    let failure = admin.pin(&ids[1], true).unwrap_err();
    assert!(failure.why.contains("isn't pinned") && failure.remedy.is_some(), "{failure}");
}
