// SPDX-License-Identifier: Apache-2.0
//! A machine with a real boot file system in a loop device. What a bootloader sees of it is read by debugfs, which replays no journal
//! either; what is left after a power cut is what had reached the file behind the device. Tools that aren't installed fail their test.

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

pub(super) fn run_program(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    said.trim().to_owned()
}

/// Does a step as soon as nobody is in the way. What other tests start beside this one holds on to what is open here: a program
/// until it runs, the watch over a frozen file system until it is thawed.
fn soon(step: impl Fn() -> rustix::io::Result<()>) {
    for _ in 0..500 {
        match step() {
            Err(Errno::BUSY) => std::thread::sleep(Duration::from_millis(10)),
            result => return result.unwrap(),
        }
    }
    panic!("somebody holds on to it");
}

/// A file system in a file, and the loop device that it is in.
pub(super) struct Disk {
    pub(super) image: PathBuf,
    pub(super) device: String,
}

impl Disk {
    pub(super) fn attach(image: &Path) -> Self {
        let device = run_program("losetup", &["--find", "--show", image.to_str().unwrap()]);
        Self { image: image.to_owned(), device }
    }

    /// Mounts it for a moment. What was written is on the disk afterwards.
    pub(super) fn within<T>(&self, look: impl FnOnce(&Path) -> T) -> T {
        let point = tempfile::tempdir().unwrap();
        soon(|| mount(&self.device, point.path(), "ext4", MountFlags::empty(), None));
        let seen = look(point.path());
        soon(|| unmount(point.path(), UnmountFlags::empty()));
        self.rests();
        seen
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.within(|boot| {
            let folder = fs::read_dir(boot.join(FOLDER.trim_start_matches('/'))).into_iter().flatten();
            let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        })
    }

    pub(super) fn set(&self, names: &[&str]) {
        self.within(|boot| {
            let folder = boot.join(FOLDER.trim_start_matches('/'));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            for name in names {
                fs::write(folder.join(name), "").unwrap();
            }
        });
    }

    /// What is left of it if power is lost now.
    pub(super) fn after_a_power_cut(&self) -> Self {
        let copy = self.image.with_file_name(format!("copy-{}", self.device.replace('/', "-")));
        fs::copy(&self.image, &copy).unwrap();
        Self::attach(&copy)
    }

    /// A file as it is seen by who replays no journal.
    pub(super) fn seen_by_grub(&self, path: &str) -> String {
        let image = self.image.to_str().unwrap();
        run_program("debugfs", &["-R", &format!("cat {path}"), image])
    }

    /// Whether it isn't mounted, be it where nobody else sees it: a device that is can't be opened exclusively (open(2)).
    pub(super) fn is_free(&self) -> bool {
        fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.device).is_ok()
    }

    /// Waits until nobody holds on to it any more: only then, all that was written is on the disk.
    pub(super) fn rests(&self) {
        soon(|| if self.is_free() { Ok(()) } else { Err(Errno::BUSY) });
    }

    /// Sectors that were written to it so far (the kernel's `Documentation/block/stat.rst`).
    pub(super) fn sectors_written(&self) -> u64 {
        let name = Path::new(&self.device).file_name().unwrap();
        let stat = fs::read_to_string(Path::new("/sys/block").join(name).join("stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/losetup").args(["--detach", &self.device]).status();
    }
}

/// A machine with three deployments: the newest has a kernel of its own, the others differ in their stateroot.
pub(super) struct Machine {
    pub(super) folder: tempfile::TempDir,
    pub(super) boot: Disk,
}

pub(super) const WANTS: &str = "usr/lib/systemd/system/multi-user.target.wants";
pub(super) const GRUB: &str =
    "set default=0\nif [ -f /grub2/grubenv ]; then\n  load_env -f /grub2/grubenv\nfi\nblscfg\n";
/// Link, stateroot, deployment, the oldest first.
pub(super) const DEPLOYMENTS: [(&str, &str, &str); 3] = [
    ("/ostree/boot.1/other/11/0", "other", "aa.0"),
    ("/ostree/boot.1/nestos/11/0", "nestos", "bb.0"),
    ("/ostree/boot.1/nestos/22/0", "nestos", "cc.0"),
];

thread_local! {
    /// Of this test: others run beside it.
    pub(super) static REBOOTS: Cell<usize> = const { Cell::new(0) };
}

impl Machine {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("boot.img");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run_program("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        let machine = Self { boot: Disk::attach(&image), folder };
        machine.boot.within(|boot| {
            fs::create_dir_all(boot.join("loader.1/entries")).unwrap();
            symlink("loader.1", boot.join("loader")).unwrap();
            fs::write(boot.join("vmlinuz"), "kernel").unwrap();
            fs::create_dir(boot.join("grub2")).unwrap();
            fs::write(boot.join("grub2/grub.cfg"), GRUB).unwrap();
            fs::write(boot.join("grub2/grubenv"), Environment::default().render().unwrap()).unwrap();
            for ((link, _, _), place) in DEPLOYMENTS.iter().zip(1..) {
                let text = format!("title Nest {place}\noptions root=x rw ostree={link}\nlinux /vmlinuz\n");
                fs::write(boot.join(format!("loader/entries/ostree-{place}.conf")), text).unwrap();
            }
        });
        for (link, stateroot, deployment) in DEPLOYMENTS {
            let root = machine.folder.path().join("root");
            let path = root.join(format!("ostree/deploy/{stateroot}/deploy/{deployment}"));
            for folder in ["usr/bin", "usr/lib", "etc/systemd/system", "sysroot", "../../var", WANTS] {
                fs::create_dir_all(path.join(folder)).unwrap();
            }
            for file in ["usr/bin/fledgectl", "usr/lib/os-release"] {
                fs::write(path.join(file), "").unwrap();
            }
            symlink("../fledge-bless.service", path.join(WANTS).join("fledge-bless.service")).unwrap();
            let link = root.join(link.trim_start_matches('/'));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(path, link).unwrap();
        }
        machine
    }

    pub(super) fn places(&self) -> Places {
        let folder = self.folder.path();
        Places {
            root: folder.join("root"),
            initramfs: folder.join("initramfs"),
            runtime: folder.join("run"),
            units: folder.join("units"),
            reboot: || {
                REBOOTS.set(REBOOTS.get() + 1);
                Failure::new("rebooting", "this is a test")
            },
        }
    }

    /// Boots a deployment by its place in the table. Afterwards, nothing is mounted any more.
    pub(super) fn boots(&self, deployment: usize, arguments: &str) -> Selection {
        let selection = self.selects(deployment, arguments);
        self.boot.rests();
        selection
    }

    /// As [`Self::boots`], whoever else holds the disk.
    pub(super) fn selects(&self, deployment: usize, arguments: &str) -> Selection {
        let _ = fs::remove_dir_all(self.folder.path().join("run"));
        let _ = fs::remove_dir_all(self.folder.path().join("units"));
        let cmdline = self.cmdline(deployment, arguments);
        let ahead = observe::ahead(&Cmdline::parse(&cmdline));
        run(&cmdline, &self.places(), ahead)
    }

    pub(super) fn cmdline(&self, deployment: usize, arguments: &str) -> String {
        format!("BOOT_IMAGE=/vmlinuz boot={} ostree={} {arguments}", self.boot.device, DEPLOYMENTS[deployment].0)
    }

    pub(super) fn left(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(name)).ok()
    }

    /// Without the newest deployment, whose kernel is another one.
    pub(super) fn with_one_kernel() -> Self {
        let machine = Self::new();
        machine.boot.within(|boot| fs::remove_file(boot.join("loader/entries/ostree-3.conf")).unwrap());
        machine
    }
}
