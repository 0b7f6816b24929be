//! `@type zabbix`: the host leaves the monitoring, by JSON-RPC (lifecycle.md §2.5).
//!
//! Asks the version first, since it decides how one logs in. Deletes only when exactly one host has the name; a host that is gone
//! already is as good as deleted, so that the step may be repeated.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Value, json};

use super::command::Outcome;
use crate::config::types::{Secret, Time};
use crate::config::{self, Element};

/// The largest answer that is read.
const ANSWER_MAX: usize = 1024 * 1024;

/// Where the session goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// By version: the header since 6.4, the body before.
    #[default]
    Auto,
    /// `Authorization: Bearer`.
    Header,
    /// The `auth` property: for servers in front that strip the header.
    Body,
}

/// The parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Params {
    /// `https://…/api_jsonrpc.php`.
    pub url: String,
    /// An API token; or user and password.
    pub token: Option<Secret>,
    /// The user to log in.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The host's technical name; else this machine's host name.
    pub host: Option<String>,
    /// `auto`, `header` or `body`.
    pub auth: Auth,
    /// How long all calls together may take.
    pub timeout: Time,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            url: String::new(),
            token: None,
            user: None,
            password: None,
            host: None,
            auth: Auth::default(),
            timeout: Time(Duration::from_secs(10)),
        }
    }
}

/// The step.
#[derive(Clone, Debug)]
pub struct Zabbix {
    params: Params,
    uri: Uri,
}

/// Reads `<after> @type zabbix`.
pub fn configure(section: &Element) -> config::Result<Zabbix> {
    let params: Params = section.params()?;
    let named = params.user.is_some() && params.password.is_some();
    if params.token.is_none() && !named {
        return Err(section
            .error("zabbix needs 'token', or 'user' and 'password'")
            .into());
    }
    Zabbix::new(params).map_err(|error| section.error_at("url", format!("{error:#}")).into())
}

/// A version of the API, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl Version {
    fn parse(text: &str) -> Result<Version> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Version(major, minor)),
            _ => bail!("apiinfo.version answered '{text}'"),
        }
    }

    /// `username` since 5.4, `user` before.
    fn user_key(self) -> &'static str {
        if self >= Version(5, 4) {
            "username"
        } else {
            "user"
        }
    }

    /// The header is known since 6.4; the body property is refused since 7.2.
    fn in_header(self, auth: Auth) -> bool {
        match auth {
            Auth::Auto => self >= Version(6, 4),
            Auth::Header => true,
            Auth::Body => false,
        }
    }
}

impl Zabbix {
    /// A step with these parameters.
    pub fn new(params: Params) -> Result<Zabbix> {
        let uri: Uri = params
            .url
            .parse()
            .with_context(|| format!("bad url '{}'", params.url))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            bail!(
                "bad url '{}': it begins with https:// and ends with /api_jsonrpc.php",
                params.url
            );
        }
        Ok(Zabbix { params, uri })
    }

    /// How long it may take.
    pub fn limit(&self) -> Duration {
        self.params.timeout.0
    }

    /// Deletes the host, until its limit or `end`.
    pub async fn run(&self, end: Instant) -> Outcome {
        let began = Instant::now();
        let limit = self.limit().min(end.saturating_duration_since(began));
        let (ok, result) = match tokio::time::timeout(limit, self.delete_host()).await {
            Ok(Ok(done)) => (true, done),
            Ok(Err(error)) => (false, format!("{error:#}")),
            Err(_) => (
                false,
                format!("no answer within {:.1} seconds", limit.as_secs_f64()),
            ),
        };
        Outcome {
            step: "zabbix".to_owned(),
            ok,
            result,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    async fn delete_host(&self) -> Result<String> {
        let host = match &self.params.host {
            Some(host) => host.clone(),
            None => nix::unistd::gethostname()
                .context("cannot read the host name")?
                .to_string_lossy()
                .into_owned(),
        };
        let api = Api {
            uri: self.uri.clone(),
            client: client()?,
        };
        let version = api.call("apiinfo.version", json!([]), Login::None).await?;
        let version = Version::parse(version.as_str().unwrap_or_default())?;
        let (session, logged_in) =
            match (&self.params.token, &self.params.user, &self.params.password) {
                (Some(token), _, _) => (token.0.clone(), false),
                (None, Some(user), Some(password)) => {
                    let params = json!({version.user_key(): user, "password": password.0});
                    let session = api.call("user.login", params, Login::None).await?;
                    (
                        session
                            .as_str()
                            .context("user.login gave no session")?
                            .to_owned(),
                        true,
                    )
                }
                _ => bail!("neither token nor user and password"),
            };
        let login = match version.in_header(self.params.auth) {
            true => Login::Header(&session),
            false => Login::Body(&session),
        };
        let result = delete(&api, &host, login).await;
        if logged_in && let Err(error) = api.call("user.logout", json!([]), login).await {
            tracing::debug!(
                error = format!("{error:#}"),
                "zabbix: the session ends by itself"
            );
        }
        result
    }
}

async fn delete(api: &Api, host: &str, login: Login<'_>) -> Result<String> {
    let wanted = json!({"output": ["hostid", "host"], "filter": {"host": [host]}});
    let found = api.call("host.get", wanted, login).await?;
    let found = found.as_array().context("host.get gave no list")?;
    let id = match found.as_slice() {
        [] => return Ok(format!("host {host} is not there")),
        [one] => one["hostid"].as_str().context("host.get gave no hostid")?,
        several => bail!("{} hosts are called {host}: none is deleted", several.len()),
    };
    match api.call("host.delete", json!([id]), login).await {
        Ok(_) => Ok(format!("deleted host {host} ({id})")),
        Err(error) if format!("{error:#}").contains("does not exist") => {
            Ok(format!("host {host} is gone already"))
        }
        Err(error) => Err(error),
    }
}

#[derive(Clone, Copy)]
enum Login<'a> {
    None,
    Header(&'a str),
    Body(&'a str),
}

struct Api {
    uri: Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Api {
    async fn call(&self, method: &str, params: Value, login: Login<'_>) -> Result<Value> {
        let mut body = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let mut request =
            Request::post(self.uri.clone()).header(CONTENT_TYPE, "application/json-rpc");
        match login {
            Login::None => {}
            Login::Header(session) => {
                request = request.header(AUTHORIZATION, format!("Bearer {session}"))
            }
            Login::Body(session) => body["auth"] = session.into(),
        }
        let request = request.body(Full::from(serde_json::to_vec(&body)?))?;
        let answer = self
            .client
            .request(request)
            .await
            .with_context(|| format!("{method}: no answer"))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| anyhow!("{method}: {error}"))?
            .to_bytes();
        let mut answer: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{method}: HTTP {status}, and not JSON"))?;
        match answer.get("error") {
            Some(error) => {
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                bail!("{method}: {} {}", text("message"), text("data"))
            }
            None => Ok(answer["result"].take()),
        }
    }
}

fn client() -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .context("cannot read this system's certificates")?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_how_one_logs_in() {
        let table = [
            ("2.2.23", "user", false),
            ("5.2.0", "user", false),
            ("5.4.1", "username", false),
            ("6.4.0", "username", true),
            ("7.0.4", "username", true),
            ("10.0.0rc1", "username", true),
        ];
        for (text, key, header) in table {
            let version = Version::parse(text).expect("a version");
            assert_eq!(
                (version.user_key(), version.in_header(Auth::Auto)),
                (key, header),
                "{text}"
            );
        }
        assert!(Version::parse("garbage").is_err());
    }

    #[test]
    fn a_url_that_cannot_be_one_is_refused() {
        for url in ["", "zabbix.example.com", "ftp://zabbix/api"] {
            let params = Params {
                url: url.to_owned(),
                ..Params::default()
            };
            assert!(Zabbix::new(params).is_err(), "{url}");
        }
    }
}
