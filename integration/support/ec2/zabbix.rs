//! A Zabbix front end as far as a drain needs it: JSON-RPC 2.0 at `api_jsonrpc.php` (lifecycle.md §2.5).

use std::sync::Arc;

use serde_json::{Value, json};

use super::hooks::Refused;
use super::http::{Answer, Request, Service, Site};
use super::notification::uuid;
use super::state::{Happening, Shared};

/// What Zabbix knows.
#[derive(Clone, Debug)]
pub struct Zabbix {
    /// Major and minor version, which decides how a client must authenticate.
    pub version: (u32, u32),
    /// The API token that is accepted; sessions of `user.login` are too.
    pub token: String,
    /// User and password of `user.login`.
    pub user: (String, String),
    /// Registered hosts: id (a string of digits) and technical name.
    pub hosts: Vec<(String, String)>,
    /// Whether requests with a session or token in a header lose it on the way, as some Apache setups do [F].
    pub strips_header: bool,
    sessions: Vec<String>,
}

impl Default for Zabbix {
    fn default() -> Self {
        Self {
            version: (7, 0),
            token: "zabbix-token".to_string(),
            user: ("Admin".to_string(), "zabbix".to_string()),
            hosts: Vec::new(),
            strips_header: false,
            sessions: Vec::new(),
        }
    }
}

impl Zabbix {
    /// One call; the host names that it deleted go into `deleted`.
    fn call(&mut self, request: &Request, deleted: &mut Vec<String>) -> Value {
        let body: Value = match serde_json::from_slice(&request.body) {
            Ok(body) => body,
            Err(error) => return failure(&Value::Null, -32700, &error.to_string()),
        };
        let (id, params) = (&body["id"], &body["params"]);
        let method = body["method"].as_str().unwrap_or_default();
        let bearer = request.header("authorization").strip_prefix("Bearer ");
        let bearer = bearer.filter(|_| !self.strips_header && self.version >= (6, 4));
        // `auth` in the body: deprecated in 6.4, rejected since 7.2 [F].
        if self.version >= (7, 2) && body.get("auth").is_some() {
            return failure(
                id,
                -32600,
                "Invalid parameter \"/\": unexpected parameter \"auth\".",
            );
        }
        let auth = bearer.or(body["auth"].as_str()).map(str::to_string);
        let result = match method {
            "apiinfo.version" if auth.is_some() && self.version >= (7, 4) => {
                return failure(
                    id,
                    -32602,
                    "The \"apiinfo.version\" method must be called without authorization header.",
                );
            }
            "apiinfo.version" => json!(format!("{}.{}.4", self.version.0, self.version.1)),
            "user.login" => match self.login(params) {
                Ok(session) => json!(session),
                Err(text) => return failure(id, -32602, text),
            },
            _ if !auth.is_some_and(|auth| self.knows(&auth)) => {
                return failure(id, -32602, "Not authorized.");
            }
            "user.logout" => json!(true),
            "host.get" => self.find(params),
            "host.delete" => match self.delete(params, deleted) {
                Some(ids) => json!({ "hostids": ids }),
                None => {
                    let text = "No permissions to referred object or it does not exist!";
                    return failure(id, -32500, text);
                }
            },
            _ => return failure(id, -32601, "Method not found."),
        };
        json!({"jsonrpc": "2.0", "result": result, "id": id})
    }

    fn knows(&self, auth: &str) -> bool {
        // API tokens exist since 5.4.
        (auth == self.token && self.version >= (5, 4)) || self.sessions.iter().any(|s| s == auth)
    }

    /// `user` before 5.4, `username` since; 5.4 to 6.2 take both.
    fn login(&mut self, params: &Value) -> Result<String, &'static str> {
        let key = if params.get("username").is_some() {
            "username"
        } else {
            "user"
        };
        let allowed = match key {
            "username" => self.version >= (5, 4),
            _ => self.version < (6, 4),
        };
        if !allowed {
            return Err("Invalid parameter \"/\": unexpected parameter.");
        }
        if params[key] != json!(self.user.0) || params["password"] != json!(self.user.1) {
            return Err("Incorrect user name or password or account is temporarily blocked.");
        }
        let session = uuid().replace('-', "");
        self.sessions.push(session.clone());
        Ok(session)
    }

    fn find(&self, params: &Value) -> Value {
        let names = &params["filter"]["host"];
        let asked = |host: &str| match names {
            Value::Array(names) => names.iter().any(|name| name == host),
            name => name == host,
        };
        let found = self.hosts.iter().filter(|(_, host)| asked(host));
        found
            .map(|(id, host)| json!({"hostid": id, "host": host}))
            .collect()
    }

    fn delete(&mut self, params: &Value, deleted: &mut Vec<String>) -> Option<Vec<String>> {
        let ids: Vec<String> = params
            .as_array()?
            .iter()
            .map(|id| id.as_str().map(str::to_string))
            .collect::<Option<_>>()?;
        if !ids
            .iter()
            .all(|id| self.hosts.iter().any(|(known, _)| known == id))
        {
            return None;
        }
        let gone = self.hosts.extract_if(.., |(id, _)| ids.contains(id));
        deleted.extend(gone.map(|(_, host)| host));
        Some(ids)
    }
}

/// Errors come with HTTP 200.
fn failure(id: &Value, code: i64, data: &str) -> Value {
    let message = match code {
        -32600 => "Invalid request.",
        -32500 => "Application error.",
        -32601 => "Method not found.",
        -32700 => "Parse error",
        _ => "Invalid params.",
    };
    json!({"jsonrpc": "2.0", "error": {"code": code, "message": message, "data": data}, "id": id})
}

/// The front end.
pub(super) struct ZabbixSite {
    pub shared: Arc<Shared>,
}

impl Site for ZabbixSite {
    const SERVICE: Service = Service::Zabbix;

    fn operation(&self, request: &Request) -> String {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        body["method"].as_str().unwrap_or_default().to_string()
    }

    async fn answer(&self, request: &Request) -> Answer {
        let json_types = [
            "application/json-rpc",
            "application/json",
            "application/jsonrequest",
        ];
        let content_type = request.header("content-type");
        if !json_types.iter().any(|t| content_type.starts_with(t)) {
            return Answer::new(412, "text/plain", "");
        }
        let body = self.shared.state.change(|state| {
            let mut deleted = Vec::new();
            let body = state.zabbix.call(request, &mut deleted);
            for host in deleted {
                state.note(Happening::HostDeleted { host });
            }
            body
        });
        Answer::new(200, "application/json", body.to_string())
    }

    fn refuse(&self, refused: &Refused) -> Answer {
        Answer::new(refused.status, "text/plain", refused.message.clone())
    }
}
