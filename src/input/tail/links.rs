//! Which symbolic links are followed to a log file.
//!
//! Whoever may write to a log directory may put a link there, and an agent with more rights would send what it points to. So
//! a link is followed where its owner gains nothing by it: root's and our own links, and links to a file of the same owner.
//! Container log directories (root's links) and `current.log` → `app-20260101.log` (one owner) work; a user's link to another's
//! file is refused. Each link on the way counts, those that links lead to as well.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As the kernel's own limit.
const MOST_LINKS: usize = 40;

/// Refuses `path`, which was opened as the file `target`, where a link on the way is not to be trusted.
pub fn check(path: &Path, target: &Metadata) -> io::Result<()> {
    let ours = nix::unistd::geteuid().as_raw();
    check_as(ours, path, target)
}

fn check_as(ours: u32, path: &Path, target: &Metadata) -> io::Result<()> {
    let trusted = |owner: u32| owner == 0 || owner == ours || owner == target.uid();
    let mut at = PathBuf::from(".");
    let mut ahead = parts(path);
    let mut links = 0;
    let mut last = None;
    while let Some(part) = ahead.pop_front() {
        // `..` behind a link is that of the directory it leads to: what stands in `at` has no link in it any more.
        if part == ".." && at.file_name().is_some() {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let meta = std::fs::symlink_metadata(&next)?;
        if !meta.is_symlink() {
            at = next;
            last = Some(meta);
            continue;
        }
        links += 1;
        if !trusted(meta.uid()) || links > MOST_LINKS {
            let owner = meta.uid();
            return Err(refused(format!(
                "the symbolic link {} of user {owner} leads to a file of user {}: not followed",
                next.display(),
                target.uid()
            )));
        }
        for part in parts(&std::fs::read_link(&next)?).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    // Exchanged since it was opened: the next look opens it again.
    match last {
        Some(meta) if (meta.dev(), meta.ino()) == (target.dev(), target.ino()) => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter(|part| *part != Component::CurDir);
    named.map(|part| part.as_os_str().to_owned()).collect()
}

fn refused(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_of_our_own_are_followed_through_directories_and_other_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("data")).expect("a directory");
        fs::write(at("data/app.log"), "x\n").expect("a file");
        symlink("data", at("logs")).expect("a link");
        symlink("../logs/app.log", at("data/current")).expect("a link");
        for name in [
            "data/app.log",
            "logs/app.log",
            "logs/current",
            "logs/../data/current",
        ] {
            let target = fs::metadata(at(name)).expect("a file");
            check(&at(name), &target).expect(name);
        }
    }

    #[test]
    fn a_link_of_somebody_else_to_a_third_ones_file_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("secret"), dir.path().join("app.log"));
        fs::write(&file, "x\n").expect("a file");
        symlink(&file, &link).expect("a link");
        if std::os::unix::fs::lchown(&link, Some(4242), None).is_err() {
            // Only root can make the scene.
            return;
        }
        let target = fs::metadata(&link).expect("a file");
        let error = check_as(1, &link, &target).expect_err("refused");
        assert!(error.to_string().contains("of user 4242"), "{error}");
        assert!(check_as(1, &file, &target).is_ok());
        std::os::unix::fs::chown(&file, Some(4242), None).expect("root may");
        let target = fs::metadata(&link).expect("a file");
        assert!(check_as(1, &link, &target).is_ok());
    }

    #[test]
    fn a_file_that_was_exchanged_meanwhile_is_not_the_one_that_was_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("app.log");
        fs::write(&path, "x\n").expect("a file");
        let target = fs::metadata(&path).expect("a file");
        fs::write(dir.path().join("other"), "x\n").expect("a file");
        fs::rename(dir.path().join("other"), &path).expect("renamed");
        assert!(check(&path, &target).is_err());
    }
}
