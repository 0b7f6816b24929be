//! The parameters of `<buffer>` that concern files.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::name::{Kind, Naming};
use super::{FILE_MODE, Settings, adopt};
use crate::buffer::MOST_PLAIN;
use crate::config::types::Size;
use crate::config::{Element, Result};

/// Nobody else reads what may be secret, unless the configuration says so. Fluentd's defaults are 0755 and 0644.
const DIRECTORY_MODE: u32 = 0o700;

/// Parameters of `<buffer>` with `@type file` or `file_single`, spelled as Fluentd spells them.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// A directory for `buffer.*.log`, or a pattern of file names: `/var/log/td-agent/buffer/app.*.log`. Needed where `<system>` has no
    /// `root_dir` or the output no `@id`.
    pub path: Option<String>,
    /// The end of file names where `path` does not give it.
    pub path_suffix: String,
    /// Mode of chunk files, octal. 0600 unless configured; Fluentd's is 0644.
    pub file_permission: Option<String>,
    /// Mode of a directory that is made, octal. 0700 unless configured; Fluentd's is 0755.
    pub dir_permission: Option<String>,
    /// Affluent's own. Positions move when lines are on the disk, so that a power cut loses none. With `false` they move when the kernel has
    /// the lines: faster where the disk is slow, safe against the death of the process (kill -9), and a power cut or a crash of the kernel
    /// loses what was not written back, the last half minute and more.
    pub fsync: bool,
    /// A compressed chunk that holds more is refused. At least [`LEAST_INFLATED`].
    pub decompression_size_limit: Size,
}

/// A chunk of ours may be one batch longer than what makes it full.
const LEAST_INFLATED: u64 = 2 * MOST_PLAIN as u64;

impl Default for Params {
    fn default() -> Params {
        Params {
            path: None,
            path_suffix: ".log".into(),
            file_permission: None,
            dir_permission: None,
            fsync: true,
            decompression_size_limit: Size(256 << 20),
        }
    }
}

/// The place of chunks that have no `path`: `<root_dir>/worker0/<@id>/buffer`.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    /// `root_dir` of `<system>`.
    pub root_dir: Option<&'a Path>,
    /// `@id` of the output.
    pub id: Option<&'a str>,
    /// `workers` of `<system>`: with several, Fluentd's worker 0 has `PATH/worker0`.
    pub workers: u32,
}

/// Reads them. Looks at what stands at `path`, and changes nothing.
pub fn configure(section: &Element, kind: Kind, home: Home<'_>) -> Result<Settings> {
    let params: Params = section.params()?;
    let mut beside = Vec::new();
    let (directory, naming) = match (&params.path, home.root_dir, home.id) {
        (Some(path), _, _) => {
            let (directory, naming) = place(section, &params, kind, Path::new(path))?;
            let whole = directory == Path::new(path);
            let of_worker = |number: usize| directory.join(format!("worker{number}"));
            let own = match whole && home.workers > 1 {
                true => of_worker(0),
                false => directory.clone(),
            };
            if whole {
                beside = adopt::beside(&own, of_worker);
                beside.extend((own != directory).then(|| directory.clone()));
            }
            (own, naming)
        }
        (None, Some(root), Some(id)) => {
            let of_worker = |number: usize| {
                let worker = root.join(format!("worker{number}"));
                worker.join(id).join("buffer")
            };
            beside = adopt::beside(&of_worker(0), of_worker);
            (of_worker(0), default_naming(&params, kind))
        }
        (None, _, _) => {
            let message = "'path' is required: <system> has no root_dir, or the output has no @id, from which a place could be made";
            return Err(section.error_at("@type", message).into());
        }
    };
    let mode = |key: &str, given: &Option<String>, default| match given {
        None => Ok(default),
        Some(text) => match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
            Ok(mode @ 0..=0o777) => Ok(mode),
            _ => Err(section.error_at(key, format!("'{key}' must be an octal mode like 0644"))),
        },
    };
    Ok(Settings {
        directory,
        beside,
        naming,
        fsync: params.fsync,
        most_inflated: most_inflated(&params, section),
        formatted: false,
        directory_mode: mode("dir_permission", &params.dir_permission, DIRECTORY_MODE)?,
        file_mode: mode("file_permission", &params.file_permission, FILE_MODE)?,
    })
}

fn most_inflated(params: &Params, section: &Element) -> u64 {
    let (key, limit) = (
        "decompression_size_limit",
        params.decompression_size_limit.0,
    );
    if limit < LEAST_INFLATED {
        let message = format!(
            "'{key}' is taken as {LEAST_INFLATED}: chunks that this agent compresses may hold so much"
        );
        section.warn_at(key, message);
    }
    limit.max(LEAST_INFLATED)
}

fn default_naming(params: &Params, kind: Kind) -> Naming {
    match kind {
        Kind::File => Naming::file("buffer", &params.path_suffix),
        Kind::Single => Naming::single(),
    }
}

/// Fluentd's rules for `path`.
fn place(section: &Element, params: &Params, kind: Kind, path: &Path) -> Result<(PathBuf, Naming)> {
    let base = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    if !path.is_dir()
        && let Some((prefix, suffix)) = base.split_once(".*")
    {
        if kind == Kind::Single {
            section.warn_at(
                "path",
                "file names of file_single are always fsb.*.buf, the pattern in 'path' is not used",
            );
            return Ok((parent, Naming::single()));
        }
        let suffix = match suffix {
            "" => params.path_suffix.as_str(),
            given if given.starts_with('.') => given,
            _ => {
                return Err(section
                    .error_at(
                        "path",
                        "in 'path', '.*' must be the end or stand before a dot",
                    )
                    .into());
            }
        };
        return Ok((parent, Naming::file(prefix, suffix)));
    }
    if kind == Kind::File && path.is_file() {
        return Ok((parent, Naming::file(base, &params.path_suffix)));
    }
    Ok((path.to_owned(), default_naming(params, kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_HOME: Home<'_> = Home {
        root_dir: None,
        id: None,
        workers: 1,
    };

    fn section(params: &[(&str, &str)]) -> Element {
        let nothing = Element::default();
        let mut section = Element::synthetic(&nothing, "buffer", None);
        params
            .iter()
            .for_each(|(key, value)| section.set_param(key, value, &nothing, key));
        section
    }

    fn placed(kind: Kind, path: &Path, more: &[(&str, &str)]) -> (PathBuf, Naming) {
        let path = path.display().to_string();
        let params = [&[("path", path.as_str())], more].concat();
        let settings = configure(&section(&params), kind, NO_HOME).expect("valid");
        (settings.directory, settings.naming)
    }

    #[test]
    fn path_is_read_by_fluentds_rules() {
        let place = tempfile::tempdir().expect("a directory");
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("plain"), "").expect("a file");
        let dir = place.path().to_owned();
        let file = |prefix: &str, suffix: &str| Naming::file(prefix, suffix);
        for (name, more, expected) in [
            ("", &[][..], (dir.clone(), file("buffer", ".log"))),
            ("new", &[][..], (at("new"), file("buffer", ".log"))),
            (
                "new",
                &[("path_suffix", ".buf")][..],
                (at("new"), file("buffer", ".buf")),
            ),
            ("a.*.x", &[][..], (dir.clone(), file("a", ".x"))),
            ("a.*", &[][..], (dir.clone(), file("a", ".log"))),
            ("plain", &[][..], (dir.clone(), file("plain", ".log"))),
        ] {
            assert_eq!(placed(Kind::File, &at(name), more), expected, "{name}");
        }
        assert_eq!(
            placed(Kind::Single, &at("a.*.x"), &[]),
            (dir, Naming::single())
        );
    }

    #[test]
    fn without_a_path_chunks_live_below_root_dir_by_the_outputs_id() {
        let home = Home {
            root_dir: Some(Path::new("/var/lib/x")),
            id: Some("out"),
            workers: 1,
        };
        let settings = configure(&section(&[]), Kind::File, home).expect("valid");
        assert_eq!(
            settings.directory,
            Path::new("/var/lib/x/worker0/out/buffer")
        );
        let error = configure(&section(&[]), Kind::File, NO_HOME)
            .expect_err("nowhere")
            .to_string();
        assert!(error.contains("'path' is required"), "{error}");
    }

    #[test]
    fn modes_are_octal_and_closed_unless_configured() {
        let settings = configure(&section(&[("path", "x")]), Kind::File, NO_HOME).expect("valid");
        assert_eq!(
            (settings.directory_mode, settings.file_mode),
            (0o700, 0o600)
        );
        let open = [
            ("path", "x"),
            ("dir_permission", "0755"),
            ("file_permission", "644"),
        ];
        let settings = configure(&section(&open), Kind::File, NO_HOME).expect("valid");
        assert_eq!(
            (settings.directory_mode, settings.file_mode),
            (0o755, 0o644)
        );
        let wrong = [("path", "x"), ("file_permission", "rw")];
        let error = configure(&section(&wrong), Kind::File, NO_HOME)
            .expect_err("no mode")
            .to_string();
        assert!(
            error.contains("'file_permission' must be an octal mode"),
            "{error}"
        );
    }
}
