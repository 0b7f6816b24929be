//! A disk that is full after some kilobytes: a tmpfs in a mount namespace of its own, so that nothing of it is seen elsewhere and
//! nothing is left of it afterwards. Root can have one, and everybody where user namespaces are allowed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Result, bail};
use nix::sys::statvfs::statvfs;

/// Who may mount: root in a namespace of mounts, others as root of a namespace of users.
const WAYS: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
/// Mounts, and holds the namespace until standard input ends.
const HOLD: &str = "mount -t tmpfs -o \"size=$1,mode=0700\" tiny \"$2\" && echo ready && read -r _";
/// Somebody else's file.
const FOREIGN: &str = "foreign";

/// The disk. Dropping it takes everything on it away.
pub struct TinyDisk {
    holder: Child,
    path: PathBuf,
}

impl TinyDisk {
    /// Makes one of so many bytes. `at` is an empty directory; it stays empty for everybody who looks at it directly.
    ///
    /// # Errors
    /// When this machine gives none, with what it said.
    pub fn new(at: &Path, bytes: u64) -> Result<TinyDisk> {
        let mut said = Vec::new();
        for way in WAYS {
            match held(way, at, bytes) {
                Ok(holder) => {
                    let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
                    let path = root.join(at.strip_prefix("/").unwrap_or(at));
                    return Ok(TinyDisk { holder, path });
                }
                Err(error) => said.push(format!("unshare {}: {error}", way.join(" "))),
            }
        }
        bail!("this machine gives no tiny disk: {}", said.join("; "))
    }

    /// The same for a test, which has nothing to show where there is none: that is said, whatever the test runner hides.
    pub fn or_say(at: &Path, bytes: u64) -> Option<TinyDisk> {
        match TinyDisk::new(at, bytes) {
            Ok(disk) => Some(disk),
            Err(error) => {
                let said = format!("NOT TESTED on a full disk: {error:#}\n");
                // A test runner keeps what macros print; if this cannot be written either there is nobody to read it.
                let _ = io::stderr().write_all(said.as_bytes());
                None
            }
        }
    }

    /// Its root directory, by a path that leads into the namespace from outside.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody else's file is on it.
    pub fn is_filled(&self) -> bool {
        self.path.join(FOREIGN).exists()
    }

    /// Bytes that are free on it.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn free(&self) -> Result<u64> {
        let found = statvfs(&self.path)?;
        Ok(found.blocks_available() as u64 * found.fragment_size() as u64)
    }

    /// Somebody else's file takes what is free.
    ///
    /// # Errors
    /// When it cannot be written for another reason than that.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path.join(FOREIGN))?;
        loop {
            match file.write(&[b'f'; 4096]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file is removed.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn give_back(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(FOREIGN))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // It is gone if these fail.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn held(way: &[&str], at: &Path, bytes: u64) -> io::Result<Child> {
    let mut holder = Command::new("unshare")
        .args(way)
        .args(["sh", "-c", HOLD, "sh"])
        .arg(bytes.to_string())
        .arg(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    if said.trim() == "ready" {
        return Ok(holder);
    }
    if let Some(mut stderr) = holder.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    holder.wait()?;
    Err(io::Error::other(said.trim().to_owned()))
}
