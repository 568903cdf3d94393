// Two Java clients, ollama4j and LangChain4j, on the models of tests/clients/cast.py: `java -cp .. Scenario URL`.
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.langchain4j.agent.tool.P;
import dev.langchain4j.agent.tool.Tool;
import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.data.image.Image;
import dev.langchain4j.data.message.ImageContent;
import dev.langchain4j.data.message.TextContent;
import dev.langchain4j.data.message.UserMessage;
import dev.langchain4j.data.segment.TextSegment;
import dev.langchain4j.model.chat.Capability;
import dev.langchain4j.model.chat.response.ChatResponse;
import dev.langchain4j.model.chat.response.StreamingChatResponseHandler;
import dev.langchain4j.model.ollama.OllamaChatModel;
import dev.langchain4j.model.ollama.OllamaEmbeddingModel;
import dev.langchain4j.model.ollama.OllamaModels;
import dev.langchain4j.model.ollama.OllamaStreamingChatModel;
import dev.langchain4j.model.output.structured.Description;
import dev.langchain4j.service.AiServices;
import dev.langchain4j.service.TokenStream;
import dev.langchain4j.store.embedding.CosineSimilarity;
import io.github.ollama4j.Ollama;
import io.github.ollama4j.models.chat.OllamaChatMessageRole;
import io.github.ollama4j.models.chat.OllamaChatRequest;
import io.github.ollama4j.models.embed.OllamaEmbedRequest;
import io.github.ollama4j.models.generate.OllamaGenerateRequest;
import io.github.ollama4j.models.request.ThinkMode;
import io.github.ollama4j.tools.Tools;
import io.github.ollama4j.utils.OptionsBuilder;
import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import javax.imageio.ImageIO;

public class Scenario {
    static final String SMALL = "smollm2:135m", EMBEDDER = "all-minilm:22m", QUESTION = "How is the weather in Paris?";
    static final List<String> KITTENS =
            List.of("A cat sleeps on the sofa.", "A kitten is asleep on the couch.", "Taxes are due in May.");
    static final ObjectMapper JSON = new ObjectMapper();
    static String url;

    public static void main(String[] given) throws Exception {
        url = given[0];
        System.out.println(JSON.writeValueAsString(Map.of("ollama4j", ollama4j(), "langchain4j", langchain4j())));
        System.exit(0); // a client's threads would keep the program alive
    }

    // ollama4j

    static Map<String, Object> ollama4j() throws Exception {
        Ollama client = new Ollama(url);
        client.setRequestTimeoutSeconds(120);
        Map<String, Object> told = new LinkedHashMap<>();
        told.put("streams", streams(client));
        told.put("calls", calls(client));
        var thought = client.chat(ask("thinker").withThinking(ThinkMode.ENABLED).build(), null).getResponseModel().getMessage();
        told.put("thinking", List.of(thought.getThinking().strip(), thought.getResponse()));
        told.put("animal", isAnimal(client));
        told.put("sees", prompted(client, List.of(red())) > prompted(client, List.of()) + 4);
        var vectors = client.embed(new OllamaEmbedRequest(EMBEDDER, KITTENS)).getEmbeddings();
        told.put("embedded", vectors.size() == 3 && vectors.get(0).size() == 384);
        told.put("models", client.listModels().stream().anyMatch(model -> model.getName().equals(SMALL)));
        told.put("shown", client.getModelDetails(SMALL).getDetails().getFamily());
        told.put("running", client.ps().getModels().stream().anyMatch(model -> model.getName().equals(EMBEDDER)));
        told.put("version", client.ping() && !client.getVersion().isEmpty());
        try {
            client.chat(ask("nobody").build(), null);
        } catch (Exception refused) {
            told.put("refused", refused.getMessage().contains("model 'nobody' not found"));
        }
        return told;
    }

    static OllamaChatRequest ask(String model) {
        return OllamaChatRequest.builder().withModel(model).withMessage(OllamaChatMessageRole.USER, QUESTION);
    }

    static boolean streams(Ollama client) throws Exception {
        var options = new OptionsBuilder().setNumPredict(16).setTemperature(0).build();
        var whole = client.chat(ask(SMALL).withOptions(options).build(), null).getResponseModel().getMessage().getResponse();
        List<String> parts = new ArrayList<>();
        client.chat(
                ask(SMALL).withOptions(options).withStreaming().build(), part -> parts.add(part.getMessage().getResponse()));
        return parts.size() > 2 && !whole.isEmpty() && whole.equals(String.join("", parts));
    }

    /** The client calls the tool by itself, sends what it gave, and tells the whole conversation. */
    static List<Object> calls(Ollama client) throws Exception {
        List<Object> called = new ArrayList<>();
        var city = Tools.Property.builder().type("string").description("Name of the city").required(true).build();
        var weather = Tools.ToolSpec.builder()
                .name("get_weather")
                .description("The weather in a city")
                .parameters(Tools.Parameters.of(Map.of("city", city)))
                .build();
        client.registerTool(Tools.Tool.builder()
                .toolSpec(weather)
                .toolFunction(arguments -> {
                    called.add(arguments);
                    return "rain in " + arguments.get("city");
                })
                .build());
        called.add(client.chat(ask("clerk").withUseTools(true).build(), null).getResponseModel().getMessage().getResponse());
        client.deregisterTools();
        return called;
    }

    static boolean isAnimal(Ollama client) throws Exception {
        Map<String, Object> legs = Map.of("type", "integer", "minimum", 2, "maximum", 8);
        Map<String, Object> fields = Map.of("legs", legs, "furry", Map.of("type", "boolean"));
        Map<String, Object> schema = Map.of("type", "object", "properties", fields, "required", List.of("legs", "furry"));
        var options = new OptionsBuilder().setNumPredict(60).build();
        var request = OllamaGenerateRequest.builder().withModel(SMALL).withPrompt("A dog?").withFormat(schema);
        var answer = client.generate(request.withOptions(options).build(), null).getStructuredResponse();
        return answer.keySet().equals(java.util.Set.of("legs", "furry")) && answer.get("furry") instanceof Boolean;
    }

    static int prompted(Ollama client, List<String> pictures) throws Exception {
        var options = new OptionsBuilder().setNumPredict(4).build();
        var request = OllamaGenerateRequest.builder().withModel("tiny-vision").withPrompt("What?").withOptions(options);
        return client.generate(request.withImagesBase64(pictures).build(), null).getPromptEvalCount();
    }

    static String red() throws Exception {
        BufferedImage square = new BufferedImage(32, 32, BufferedImage.TYPE_INT_RGB);
        for (int at = 0; at < 32 * 32; at++) {
            square.setRGB(at % 32, at / 32, 0xff0000);
        }
        ByteArrayOutputStream file = new ByteArrayOutputStream();
        ImageIO.write(square, "png", file);
        return Base64.getEncoder().encodeToString(file.toByteArray());
    }

    // LangChain4j

    record Animal(@Description("how many") int legs, boolean furry) {}

    interface Describer {
        Animal describe(String what);
    }

    interface Assistant {
        String answer(String question);
    }

    interface StreamingAssistant {
        TokenStream answer(String question);
    }

    public static class Weather {
        final List<String> asked = new ArrayList<>();

        @Tool("The weather in a city")
        public String get_weather(@P("Name of the city") String city) {
            asked.add(city);
            return "rain in " + city;
        }
    }

    static OllamaChatModel.OllamaChatModelBuilder model(String name) {
        return OllamaChatModel.builder().baseUrl(url).modelName(name).timeout(java.time.Duration.ofMinutes(2));
    }

    static OllamaStreamingChatModel.OllamaStreamingChatModelBuilder streaming(String name) {
        return OllamaStreamingChatModel.builder().baseUrl(url).modelName(name);
    }

    static Map<String, Object> langchain4j() throws Exception {
        Map<String, Object> told = new LinkedHashMap<>();
        var whole = model(SMALL).numPredict(16).temperature(0.0).build().chat(UserMessage.from(QUESTION));
        List<String> parts = new ArrayList<>();
        var last = stream(streaming(SMALL).numPredict(16).temperature(0.0).build(), parts);
        told.put("streams", parts.size() > 2 && String.join("", parts).equals(whole.aiMessage().text()));
        told.put("usage", List.of(whole.tokenUsage().outputTokenCount(), last.tokenUsage().outputTokenCount()));
        told.put("ends", List.of(whole.finishReason().name(), last.finishReason().name()));

        Weather weather = new Weather();
        var assistant = AiServices.builder(Assistant.class).chatModel(model("clerk").build()).tools(weather).build();
        told.put("calls", List.of(assistant.answer(QUESTION), List.copyOf(weather.asked)));
        told.put("streamed_calls", streamedCalls());

        var describing = model(SMALL).numPredict(60).supportedCapabilities(Capability.RESPONSE_FORMAT_JSON_SCHEMA).build();
        var animal = AiServices.create(Describer.class, describing).describe("a dog");
        told.put("animal", animal != null);
        var thought = model("thinker").think(true).returnThinking(true).build().chat(UserMessage.from(QUESTION)).aiMessage();
        told.put("thinking", List.of(thought.thinking().strip(), thought.text()));
        told.put("sees", seen(UserMessage.from(TextContent.from("What?"), picture())) > seen(UserMessage.from("What?")) + 4);

        var embedder = OllamaEmbeddingModel.builder().baseUrl(url).modelName(EMBEDDER).build();
        List<Embedding> vectors = embedder.embedAll(KITTENS.stream().map(TextSegment::from).toList()).content();
        double near = CosineSimilarity.between(vectors.get(0), vectors.get(1));
        told.put("embedded", near > 0.5 && CosineSimilarity.between(vectors.get(0), vectors.get(2)) < 0.5);
        var models = OllamaModels.builder().baseUrl(url).build();
        told.put("models", models.availableModels().content().stream().anyMatch(each -> each.getName().equals(SMALL)));
        told.put("running", models.runningModels().content().stream().anyMatch(each -> each.getName().equals(EMBEDDER)));
        told.put("shown", models.modelCard(SMALL).content().getDetails().getFamily());
        try {
            model("nobody").maxRetries(0).build().chat("Hi");
        } catch (RuntimeException refused) {
            told.put("refused", refused.getClass().getSimpleName());
        }
        return told;
    }

    static ImageContent picture() throws Exception {
        return ImageContent.from(Image.builder().base64Data(red()).mimeType("image/png").build());
    }

    static int seen(UserMessage message) {
        return model("tiny-vision").numPredict(4).build().chat(message).tokenUsage().inputTokenCount();
    }

    static ChatResponse stream(OllamaStreamingChatModel model, List<String> parts) throws Exception {
        CompletableFuture<ChatResponse> done = new CompletableFuture<>();
        model.chat(QUESTION, new StreamingChatResponseHandler() {
            @Override
            public void onPartialResponse(String part) {
                parts.add(part);
            }

            @Override
            public void onCompleteResponse(ChatResponse response) {
                done.complete(response);
            }

            @Override
            public void onError(Throwable error) {
                done.completeExceptionally(error);
            }
        });
        return done.get(2, TimeUnit.MINUTES);
    }

    static List<Object> streamedCalls() throws Exception {
        Weather weather = new Weather();
        var clerk = streaming("clerk").build();
        var assistant = AiServices.builder(StreamingAssistant.class).streamingChatModel(clerk).tools(weather).build();
        CompletableFuture<ChatResponse> done = new CompletableFuture<>();
        assistant
                .answer(QUESTION)
                .onPartialResponse(part -> {})
                .onCompleteResponse(done::complete)
                .onError(done::completeExceptionally)
                .start();
        String answer = done.get(2, TimeUnit.MINUTES).aiMessage().text();
        return List.of(answer, List.copyOf(weather.asked));
    }
}
