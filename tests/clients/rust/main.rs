//! ollama-rs on the models of tests/clients/cast.py: `scenario URL`.

use ollama_rs::coordinator::Coordinator;
use ollama_rs::generation::chat::{request::ChatMessageRequest, ChatMessage};
use ollama_rs::generation::completion::request::GenerationRequest;
use ollama_rs::generation::embeddings::request::GenerateEmbeddingsRequest;
use ollama_rs::generation::images::Image;
use ollama_rs::generation::parameters::{FormatType, JsonSchema, JsonStructure};
use ollama_rs::models::{create::CreateModelRequest, ModelOptions};
use ollama_rs::Ollama;
use serde::Deserialize;
use serde_json::{json, Value};
use tokio_stream::StreamExt;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SMALL: &str = "smollm2:135m";
const EMBEDDER: &str = "all-minilm:22m";
const QUESTION: &str = "How is the weather in Paris?";
const RED: &str = "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAKklEQVR4nGM4wcVFU8QwasGoBaMWjFowasGoBaMWjFowasGoBaMWDBULADz1cC6SmOgJAAAAAElFTkSuQmCC";

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Animal {
    legs: i32,
    furry: bool,
}

/// The weather in a city.
///
/// * city - Name of the city.
#[ollama_rs::function]
async fn get_weather(city: String) -> Outcome<String> {
    Ok(format!("rain in {city}"))
}

fn ask(model: &str) -> ChatMessageRequest {
    ChatMessageRequest::new(model.into(), vec![ChatMessage::user(QUESTION.into())])
}

fn brief(tokens: i32) -> ModelOptions {
    ModelOptions::default().temperature(0.0).num_predict(tokens)
}

async fn streams(client: &Ollama) -> Outcome<bool> {
    let whole = client.send_chat_messages(ask(SMALL).options(brief(16))).await?.message.content;
    let mut parts = client.send_chat_messages_stream(ask(SMALL).options(brief(16))).await?;
    let (mut said, mut ended) = (String::new(), false);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|()| "a part cannot be read")?;
        said += &part.message.content;
        ended = part.final_data.is_some_and(|end| end.eval_count == 16);
    }
    Ok(ended && !said.is_empty() && said == whole)
}

async fn calls(client: &Ollama) -> Outcome<Value> {
    let mut coordinator = Coordinator::new(client.clone(), "clerk".into(), vec![]).add_tool(get_weather);
    let answer = coordinator.chat(vec![ChatMessage::user(QUESTION.into())]).await?;
    Ok(json!(answer.message.content))
}

async fn thinking(client: &Ollama) -> Outcome<Value> {
    let answer = client.send_chat_messages(ask("thinker").think(true)).await?.message;
    Ok(json!([answer.thinking.unwrap_or_default().trim(), answer.content]))
}

async fn is_animal(client: &Ollama) -> Outcome<bool> {
    let format = FormatType::StructuredJson(Box::new(JsonStructure::new::<Animal>()));
    let answer = client.send_chat_messages(ask(SMALL).format(format).options(brief(60))).await?;
    Ok(serde_json::from_str::<Animal>(&answer.message.content).is_ok())
}

async fn prompted(client: &Ollama, pictures: Vec<Image>) -> Outcome<u64> {
    let request = GenerationRequest::new("tiny-vision".into(), "What?").images(pictures).options(brief(4));
    Ok(client.generate(request).await?.prompt_eval_count.ok_or("not counted")?)
}

async fn embedded(client: &Ollama) -> Outcome<bool> {
    let texts = vec!["A cat sleeps on the sofa.", "A kitten is asleep on the couch.", "Taxes are due in May."];
    let request = GenerateEmbeddingsRequest::new(EMBEDDER.into(), texts.into());
    let vectors = client.generate_embeddings(request).await?.embeddings;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>(); // they have the length one
    Ok(dot(&vectors[0], &vectors[1]) > 0.5 && dot(&vectors[0], &vectors[2]) < 0.5)
}

async fn made(client: &Ollama) -> Outcome<Value> {
    let request = CreateModelRequest::new("of-rust".into()).from_model(SMALL.into()).system("Be brief.".into());
    let status = client.create_model(request).await?.message;
    client.copy_model("of-rust".into(), "of-rust:two".into()).await?;
    let shown = client.show_model_info("of-rust:two".into()).await?;
    client.delete_model("of-rust".into()).await?;
    client.delete_model("of-rust:two".into()).await?;
    Ok(json!([status, shown.model_info["general.architecture"]]))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let client = Ollama::try_new(std::env::args().nth(1).ok_or("which server?")?)?;
    let logprobs = GenerationRequest::new(SMALL.into(), "Hi").logprobs(true).top_logprobs(2).options(brief(3));
    let refused = client.send_chat_messages(ask("nobody")).await.map(|_| ()).unwrap_err();
    let told = json!({
        "streams": streams(&client).await?,
        "calls": calls(&client).await?,
        "thinking": thinking(&client).await?,
        "animal": is_animal(&client).await?,
        "sees": prompted(&client, vec![Image::from_base64(RED)]).await? > prompted(&client, vec![]).await? + 4,
        "embedded": embedded(&client).await?,
        "logprobs": client.generate(logprobs).await?.logprobs.map(|each| each.len()),
        "models": client.list_local_models().await?.iter().any(|model| model.name == SMALL),
        "made": made(&client).await?,
        "refused": refused.to_string().contains("model 'nobody' not found"),
    });
    println!("{told}");
    Ok(())
}
