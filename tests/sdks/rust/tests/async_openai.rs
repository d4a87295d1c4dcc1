//! Tests async-openai, as published, against the service.
//!
//! with_service.py starts the service and the sandbox behind it.

use std::fs::OpenOptions;
use std::future::Future;
use std::io::Write;
use std::time::{Duration, Instant};

use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, ChatCompletionRequestAssistantMessageArgs, ChatCompletionRequestMessage,
    ChatCompletionRequestToolMessageArgs, ChatCompletionRequestUserMessageArgs, ChatCompletionTool,
    ChatCompletionTools, CreateChatCompletionRequest, CreateChatCompletionRequestArgs, FinishReason,
    FunctionObjectArgs, ResponseFormat, ResponseFormatJsonSchema,
};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{json, Value};

const MODEL: &str = "meta-llama/Meta-Llama-3-8B-Instruct-Turbo";
const TEXT: &str = "Hello there, friend.";
const WEATHER_QUESTION: &str = "What is the weather in Paris?";
const PERSON_QUESTION: &str = "Who? Answer in JSON.";
const TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_call() {
    proves("call", async {
        let response = client().chat().create(request(MODEL, &say())).await.unwrap();

        assert_eq!(Some(TEXT), response.choices[0].message.content.as_deref());
        assert_eq!(Some(FinishReason::Stop), response.choices[0].finish_reason);
        assert!(response.usage.unwrap().total_tokens > 0);
    })
    .await;
}

#[tokio::test]
async fn a_stream() {
    proves("stream", async {
        let long = vec![TEXT; 20].join(" ");
        let (pieces, error) = read_stream(MODEL, &format!("say: {long}")).await;

        assert!(error.is_none(), "{error:?}");
        assert_eq!(long, pieces.concat());
        assert!(pieces.len() > 1);
    })
    .await;
}

#[tokio::test]
async fn a_tool_call_and_its_result() {
    proves("tools", async {
        let function = FunctionObjectArgs::default()
            .name("get_weather")
            .description("The weather of a city")
            .parameters(json!({
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            }))
            .build()
            .unwrap();
        let mut request = request(MODEL, WEATHER_QUESTION);
        request.tools = Some(vec![ChatCompletionTools::Function(ChatCompletionTool { function })]);
        let first = client().chat().create(request.clone()).await.unwrap();
        let calls = first.choices[0].message.tool_calls.clone().unwrap();
        let ChatCompletionMessageToolCalls::Function(call) = calls[0].clone() else {
            panic!("called {calls:?}");
        };
        let asked = ChatCompletionRequestAssistantMessageArgs::default().tool_calls(calls).build();
        let result =
            ChatCompletionRequestToolMessageArgs::default().tool_call_id(call.id).content("Rain.").build();
        request.messages.push(asked.unwrap().into());
        request.messages.push(result.unwrap().into());
        let second = client().chat().create(request).await.unwrap();

        let arguments: Value = serde_json::from_str(&call.function.arguments).unwrap();
        assert_eq!("get_weather", call.function.name);
        assert!(arguments["city"].is_string());
        assert!(second.choices[0].message.content.as_ref().unwrap().contains("Rain."));
    })
    .await;
}

#[tokio::test]
async fn a_json_schema() {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Person {
        name: String,
        #[serde(rename = "age")]
        _age: u32,
    }

    proves("schema", async {
        let mut request = request(MODEL, PERSON_QUESTION);
        request.response_format = Some(ResponseFormat::JsonSchema {
            json_schema: ResponseFormatJsonSchema {
                name: "person".into(),
                description: None,
                schema: json!({
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                    "required": ["name", "age"],
                    "additionalProperties": false,
                }),
                strict: Some(true),
            },
        });
        let response = client().chat().create(request).await.unwrap();
        let content = response.choices[0].message.content.as_ref().unwrap();
        let person: Person = serde_json::from_str(content).unwrap();

        assert!(!person.name.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_error_has_its_code_and_a_failing_stream_ends_with_an_error() {
    proves("errors", async {
        for status in [401, 404, 429, 500, 503] {
            let model = format!("sandbox/error-{status}");
            let error = client().chat().create(request(&model, &say())).await.unwrap_err();

            let OpenAIError::ApiError(error) = error else {
                panic!("{status}: {error:?}");
            };
            assert_eq!(status, error.status_code.as_u16());
            // The library does not parse the bodies of server errors.
            assert_eq!(status < 500, error.api_error.code.is_some());
        }
        for model in ["sandbox/stream-error-after-3", "sandbox/cut-stream"] {
            let (pieces, error) = read_stream(model, &say()).await;

            assert!(!pieces.is_empty());
            assert!(error.is_some(), "{model} was taken for complete");
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_stream_releases_the_provider() {
    proves("cancel", async {
        let model = "sandbox/stall-after-2";
        let mut stream = client().chat().create_stream(request(model, &say())).await.unwrap();
        stream.next().await.unwrap().unwrap();
        drop(stream);

        assert_eq!("client_closed", end_of(model).await);
    })
    .await;
}

fn client() -> async_openai::Client<async_openai::config::OpenAIConfig> {
    let base_url = address("TOGETHERCHAT_BASE_URL");
    // docs: begin
    use async_openai::{config::OpenAIConfig, Client};

    let config = OpenAIConfig::new().with_api_base(base_url).with_api_key("YOUR_KEY");
    let client = Client::with_config(config);
    // docs: end
    client
}

fn say() -> String {
    format!("say: {TEXT}")
}

fn request(model: &str, text: &str) -> CreateChatCompletionRequest {
    let message: ChatCompletionRequestMessage =
        ChatCompletionRequestUserMessageArgs::default().content(text).build().unwrap().into();
    CreateChatCompletionRequestArgs::default().model(model).messages([message]).build().unwrap()
}

/// Returns the texts of a stream, and the error that ended it.
async fn read_stream(model: &str, text: &str) -> (Vec<String>, Option<OpenAIError>) {
    let mut stream = client().chat().create_stream(request(model, text)).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(chunk) => pieces.extend(chunk.choices.into_iter().filter_map(|choice| choice.delta.content)),
            Err(error) => return (pieces, Some(error)),
        }
    }
    (pieces, None)
}

/// Waits until the only request for a model has ended. Returns how.
async fn end_of(model: &str) -> String {
    let log = format!("{}/sandbox/request-log?model={model}", address("TOGETHERCHAT_SANDBOX_URL"));
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        let log: Value = reqwest::get(&log).await.unwrap().json().await.unwrap();
        if let [request] = log["requests"].as_array().unwrap().as_slice() {
            if request["ended"] != "running" {
                return request["ended"].as_str().unwrap().to_owned();
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    panic!("{model} did not end");
}

/// Runs a test. A passed one is a line of JSON in the file that INTEGRATIONS_OUT names (../../README.md).
async fn proves(feature: &str, test: impl Future<Output = ()>) {
    test.await;
    let Ok(path) = std::env::var("INTEGRATIONS_OUT") else {
        return;
    };
    let line = json!({
        "client": "async-openai (Rust)",
        "feature": feature,
        "result": "yes",
        "source": "tests/sdks/rust/tests/async_openai.rs",
    });
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn address(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests with tests/sdks/with_service.py"))
}
