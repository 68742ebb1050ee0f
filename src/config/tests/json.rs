//! The section `[json]`, and the key `json` of a backend.

use http::header::CONTENT_TYPE;

use super::*;
use crate::{body::ReplayMemory, upstream::json::*};

const FILE: &str = r#"
[json]
set = { "stream_options.include_usage" = true, model = "for all" }
remove = ["logit_bias"]
bound = "2MiB"
response_model = "as_asked"

[[backend]]
name = "a"
json = { map = { model = { fast = "gpt-4o-mini" } }, default = { temperature = 0.2, n = [1] }, unmapped = "refuse" }

[[backend]]
name = "b"
json = { set = { stream_options = {} }, bound = "16MiB", memory = "32MiB", otherwise = "send", response_model = "served" }

[[backend]]
name = "c"
"#;

// C9, C76
#[test]
fn a_backend_has_its_own_edits_over_those_of_all() {
    let all = JsonEditLayer::new().set("model", "for all").unwrap().set("stream_options.include_usage", true).unwrap();
    let all = all.remove("logit_bias").unwrap().bound(2 << 20).response_model(ResponseModel::AsAsked);
    let a = JsonEditLayer::new().set_default("n", vec![1]).unwrap().set_default("temperature", 0.2).unwrap();
    let a = a.map("model", [("fast", "gpt-4o-mini")]).unwrap().unmapped(Unmapped::Refuse);
    let b = JsonEditLayer::new().set("stream_options", serde_json::json!({})).unwrap().bound(16 << 20);
    let b = b.memory(ReplayMemory::new(32 << 20)).otherwise(Unedited::Forward).response_model(ResponseModel::Served);
    let config = good(FILE);
    let found: Vec<_> = config.backends().iter().map(|backend| backend.service().json_edit()).collect();
    assert_eq!(found, [&a.over(&all), &b.over(&all), &all]);
}

// C24, C76
#[tokio::test]
async fn the_edits_of_a_file_reach_the_client() {
    let fleet = good(FILE).fleet(|backend| {
        let name = backend.name().to_owned();
        service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
            let name = name.clone();
            async move {
                let sent = request.into_body().collect().await.expect("a body").to_bytes();
                let status = if name == "a" { 503 } else { 200 };
                Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(sent)).expect("a response"))
            }
        })
    });
    let text = "strategy = \"failover\"\n[failover]\nmode = \"sequential\"";
    let door = good(text).failover().layer(fleet.expect("a fleet"));
    let body = Full::new(Bytes::from_static(b"{\"model\":\"fast\",\"stream_options\":null}"));
    let request = Request::post("/").header(CONTENT_TYPE, "application/json").body(body).expect("a request");
    let response = door.oneshot(request).await.expect("a response");
    let sent = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(sent, "{\"model\":\"for all\",\"stream_options\":{}}");
}

// C58
#[test]
fn edits_that_cannot_work_are_refused_by_path_value_and_backend() {
    let own = |keys: &str| format!("[[backend]]\nname = \"eu-1\"\njson = {{ {keys} }}");
    for (text, expected) in [
        (
            own("set = { model = \"a\" }, remove = [\"model\"]"),
            "backend[0].json.remove: `model` of `eu-1` must not be edited twice; only a default and a map go together",
        ),
        (
            own("set = { a = 1, \"a.b\" = 2 }"),
            "backend[0].json.set: `a.b` of `eu-1` must not be below a path that is edited as a whole",
        ),
        (
            own("map = { model = { \"\" = \"x\" } }"),
            "backend[0].json.map: `model` of `eu-1` must not have an empty name",
        ),
        (own("map = { model = {} }"), "backend[0].json.map: `model` of `eu-1` must have a name"),
        (own("map = { model = { a = 1 } }"), "backend[0].json.map.model.a: 1 of `eu-1` must be a text"),
        (own("remove = [\"\"]"), "backend[0].json.remove: `` of `eu-1` must be a path such as"),
        (own("bound = 0"), "backend[0].json.bound: 0 of `eu-1` must be at least 1: no body would be edited"),
        (
            own("bound = \"2MiB\", memory = \"1MiB\""),
            "backend[0].json.memory: 1048576 of `eu-1` must be at least the bound of one body",
        ),
        (own("otherwise = \"drop\""), "backend[0].json.otherwise: \"drop\" of `eu-1` must be one of refuse, send"),
        (own("sets = {}"), "backend[0].json.sets: there is no such key; the keys here are set, default, remove, map"),
        ("[json]\nset = { \"a..b\" = 1 }".to_owned(), "json.set: `a..b` must be a path such as"),
        ("[json]\nresponse_model = \"any\"".to_owned(), "json.response_model: \"any\" must be one of served, as_asked"),
    ] {
        let error = refused(&text);
        assert!(error.contains(expected), "{error}");
    }
}
