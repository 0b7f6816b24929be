//! The Zabbix front end: who may authenticate how depends on its version (lifecycle.md §2.5).

use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::support::ec2::Ec2World;
use crate::support::ec2::state::Happening;

/// One call; `bearer` goes into the header when it is not empty.
async fn call(world: &Ec2World, mut body: Value, bearer: &str) -> Value {
    body["jsonrpc"] = json!("2.0");
    body["id"] = json!(1);
    let mut request = hyper::Request::post(world.zabbix_url());
    request = request.header("content-type", "application/json-rpc");
    if !bearer.is_empty() {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let request = request
        .body(Full::new(bytes::Bytes::from(body.to_string())))
        .expect("a request");
    let executor = hyper_util::rt::TokioExecutor::new();
    let client = hyper_util::client::legacy::Client::builder(executor).build_http();
    let answer = client.request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200, "errors come with 200 too");
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

async fn world(version: (u32, u32)) -> Ec2World {
    let world = Ec2World::start().await.expect("a world");
    world.state().change(|state| {
        state.zabbix.version = version;
        let host = ("10105".to_string(), "web-1".to_string());
        state.zabbix.hosts.push(host);
    });
    world
}

fn get(host: &str) -> Value {
    json!({"method": "host.get", "params": {"output": ["hostid", "host"], "filter": {"host": [host]}}})
}

#[tokio::test]
async fn a_token_in_the_header_finds_and_deletes_a_host_once() {
    let world = world((7, 0)).await;
    let delete = json!({"method": "host.delete", "params": ["10105"]});
    let found = call(&world, get("web-1"), "zabbix-token").await;
    assert_eq!(
        found["result"],
        json!([{"hostid": "10105", "host": "web-1"}])
    );
    let deleted = call(&world, delete.clone(), "zabbix-token").await;
    assert_eq!(deleted["result"], json!({"hostids": ["10105"]}));
    let again = call(&world, delete, "zabbix-token").await;
    assert!(
        again["error"]["data"]
            .as_str()
            .is_some_and(|text| text.contains("does not exist"))
    );
    assert_eq!(
        call(&world, get("web-1"), "zabbix-token").await["result"],
        json!([])
    );
    let host = "web-1".to_string();
    let deleted = Happening::HostDeleted { host };
    assert!(world.timeline().iter().any(|moment| moment.what == deleted));
}

#[tokio::test]
async fn the_version_decides_where_the_token_goes() {
    let with_auth = || {
        let mut body = get("web-1");
        body["auth"] = json!("zabbix-token");
        body
    };
    let newest = world((7, 4)).await;
    assert_eq!(
        call(&newest, with_auth(), "").await["error"]["code"],
        -32600
    );
    let version = json!({"method": "apiinfo.version", "params": []});
    assert_eq!(call(&newest, version.clone(), "").await["result"], "7.4.4");
    assert!(call(&newest, version, "zabbix-token").await["error"].is_object());
    let old = world((6, 0)).await;
    assert!(call(&old, get("web-1"), "zabbix-token").await["error"].is_object());
    assert!(call(&old, with_auth(), "").await["result"].is_array());
    let ancient = world((5, 0)).await;
    let login =
        |key: &str| json!({"method": "user.login", "params": {key: "Admin", "password": "zabbix"}});
    assert!(call(&ancient, login("username"), "").await["error"].is_object());
    let session = call(&ancient, login("user"), "").await["result"].clone();
    let mut body = get("web-1");
    body["auth"] = session;
    assert!(call(&ancient, body, "").await["result"].is_array());
}
