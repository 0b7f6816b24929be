//! What a daemon does to its own process before anything runs: background, user, mask.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, Uid, User, daemon, initgroups, setgid, setuid};

use crate::args::Args;

/// Applies `--umask`, `--daemon`, `--group` and `--user`, in this order. Must be called before the first thread starts.
pub fn prepare(args: &Args) -> anyhow::Result<()> {
    if let Some(mask) = &args.umask {
        let bits = u32::from_str_radix(mask, 8)
            .with_context(|| format!("--umask {mask}: not an octal number"))?;
        umask(Mode::from_bits_truncate(bits));
    }
    if let Some(pid_file) = &args.daemon {
        detach(pid_file)?;
    }
    raise_open_files();
    change_user(args.user.as_deref(), args.group.as_deref())
}

/// Goes to the background and writes the process id. As with Fluentd the file stays behind at the end.
fn detach(pid_file: &Path) -> anyhow::Result<()> {
    // Checked first: behind the fork nobody reads standard error.
    fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(pid_file)
        .with_context(|| format!("cannot write pid file {}", pid_file.display()))?;
    // The working directory is kept, since a configuration may name relative paths.
    daemon(true, false).context("cannot go to the background")?;
    fs::write(pid_file, format!("{}\n", std::process::id()))
        .with_context(|| format!("cannot write pid file {}", pid_file.display()))
}

fn change_user(user: Option<&str>, group: Option<&str>) -> anyhow::Result<()> {
    let user = user.map(find_user).transpose()?;
    let group = group.map(find_group).transpose()?;
    if let Some(gid) = group.or(user.as_ref().map(|user| user.gid)) {
        if let Some(user) = &user {
            let name = std::ffi::CString::new(user.name.as_str()).context("user name")?;
            initgroups(&name, gid)
                .with_context(|| format!("cannot take the groups of {}", user.name))?;
        }
        setgid(gid).with_context(|| format!("cannot change to group {gid}"))?;
    }
    if let Some(user) = user {
        setuid(user.uid).with_context(|| format!("cannot change to user {}", user.name))?;
    }
    Ok(())
}

/// How many descriptors this process may have, once [`prepare`] has taken what it is allowed.
pub fn open_files() -> usize {
    let limits = getrlimit(Resource::RLIMIT_NOFILE);
    let most = limits.map_or(1024, |(_, hard)| hard);
    usize::try_from(most).unwrap_or(usize::MAX)
}

/// Ten thousand log files need as many descriptors; the soft limit is low for programs that use `select`.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        eprintln!("affluent: the limit of open files stays at {soft}: {error}");
    }
}

fn find_user(name: &str) -> anyhow::Result<User> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    match found.with_context(|| format!("--user {name}"))? {
        Some(user) => Ok(user),
        None => bail!("--user {name}: no such user"),
    }
}

fn find_group(name: &str) -> anyhow::Result<Gid> {
    let found = match name.parse() {
        Ok(number) => Group::from_gid(Gid::from_raw(number)),
        Err(_) => Group::from_name(name),
    };
    match found.with_context(|| format!("--group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!("--group {name}: no such group"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_by_number() {
        assert_eq!(
            find_user("root").expect("root").uid,
            find_user("0").expect("root").uid
        );
        assert_eq!(
            find_group("root").expect("root"),
            find_group("0").expect("root")
        );
    }

    #[test]
    fn an_unknown_user_is_named() {
        assert_eq!(
            find_user("nobody-of-that-name")
                .expect_err("unknown")
                .to_string(),
            "--user nobody-of-that-name: no such user"
        );
    }
}
