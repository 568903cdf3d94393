// The official Go client, which Ollama's own command uses, on the models of tests/clients/cast.py: `scenario URL`.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/ollama/ollama/api"
)

const (
	small    = "smollm2:135m"
	embedder = "all-minilm:22m"
	question = "How is the weather in Paris?"
	animal   = `{"type":"object","properties":{"legs":{"type":"integer","minimum":2,"maximum":8},` +
		`"furry":{"type":"boolean"}},"required":["legs","furry"],"additionalProperties":false}`
)

var (
	ctx     = context.Background()
	whole   = new(bool)
	options = map[string]any{"num_predict": 16, "temperature": 0}
	client  *api.Client
)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// chat gives back the parts of an answer put together, and how many parts there were.
func chat(request api.ChatRequest) (answer api.Message, parts int) {
	must(0, client.Chat(ctx, &request, func(part api.ChatResponse) error {
		parts++
		answer.Role = part.Message.Role
		answer.Content += part.Message.Content
		answer.Thinking += part.Message.Thinking
		answer.ToolCalls = append(answer.ToolCalls, part.Message.ToolCalls...)
		return nil
	}))
	return answer, parts
}

func ask(model string, stream *bool) api.ChatRequest {
	messages := []api.Message{{Role: "user", Content: question}}
	return api.ChatRequest{Model: model, Messages: messages, Stream: stream, Options: options}
}

func streams() bool {
	one, lines := chat(ask(small, whole))
	several, parts := chat(ask(small, nil))
	return one.Content != "" && one.Content == several.Content && lines == 1 && parts > 2
}

func calls(stream *bool) []any {
	city := api.NewToolPropertiesMap()
	city.Set("city", api.ToolProperty{Type: api.PropertyType{"string"}})
	weather := api.ToolFunction{Name: "get_weather", Description: "The weather in a city"}
	weather.Parameters = api.ToolFunctionParameters{Type: "object", Required: []string{"city"}, Properties: city}
	request := ask("clerk", stream)
	request.Tools = api.Tools{{Type: "function", Function: weather}}
	request.Options = nil
	first, _ := chat(request)
	call := first.ToolCalls[0]
	result := api.Message{Role: "tool", Content: "rain", ToolName: call.Function.Name, ToolCallID: call.ID}
	request.Messages = append(request.Messages, first, result)
	last, _ := chat(request)
	return []any{call.Function.Name, call.Function.Arguments.ToMap(), last.Content}
}

func thinking() []string {
	request := ask("thinker", nil)
	request.Think, request.Options = &api.ThinkValue{Value: true}, nil
	answer, _ := chat(request)
	return []string{strings.TrimSpace(answer.Thinking), answer.Content}
}

func isAnimal() bool {
	request := ask(small, whole)
	request.Format = json.RawMessage(animal)
	request.Options = map[string]any{"num_predict": 60}
	answer, _ := chat(request)
	var read struct {
		Legs  int
		Furry bool
	}
	return json.Unmarshal([]byte(answer.Content), &read) == nil && 2 <= read.Legs && read.Legs <= 8
}

// prompted tells how many tokens a prompt had, and that the last part ends the answer.
func prompted(images ...api.ImageData) (tokens int) {
	request := api.GenerateRequest{Model: "tiny-vision", Prompt: "What?", Images: images, Options: options}
	must(0, client.Generate(ctx, &request, func(part api.GenerateResponse) error {
		if part.Done {
			tokens = part.PromptEvalCount
		}
		return nil
	}))
	return tokens
}

func cosine(a, b []float32) float64 {
	var dot, left, right float64
	for at := range a {
		dot += float64(a[at] * b[at])
		left += float64(a[at] * a[at])
		right += float64(b[at] * b[at])
	}
	return dot / math.Sqrt(left*right)
}

// red is a PNG of 32 x 32 in that colour.
func red() api.ImageData {
	square := image.NewNRGBA(image.Rect(0, 0, 32, 32))
	draw.Draw(square, square.Bounds(), image.NewUniform(color.NRGBA{R: 255, A: 255}), image.Point{}, draw.Src)
	var file bytes.Buffer
	must(0, png.Encode(&file, square))
	return file.Bytes()
}

func embedded() bool {
	texts := []string{"A cat sleeps on the sofa.", "A kitten is asleep on the couch.", "Taxes are due in May."}
	vectors := must(client.Embed(ctx, &api.EmbedRequest{Model: embedder, Input: texts})).Embeddings
	old := must(client.Embeddings(ctx, &api.EmbeddingRequest{Model: embedder, Prompt: texts[0]})).Embedding
	return len(vectors[0]) == len(old) && cosine(vectors[0], vectors[1]) > 0.5 && cosine(vectors[0], vectors[2]) < 0.5
}

func listed() []bool {
	has := func(model api.ListModelResponse) bool { return model.Name == small && !model.ModifiedAt.IsZero() }
	runs := func(model api.ProcessModelResponse) bool { return model.Name == embedder && !model.ExpiresAt.IsZero() }
	return []bool{
		slices.ContainsFunc(must(client.List(ctx)).Models, has),
		slices.ContainsFunc(must(client.ListRunning(ctx)).Models, runs),
		must(client.Show(ctx, &api.ShowRequest{Model: small})).ModelInfo["general.architecture"] == "llama",
	}
}

// made creates a model from another, copies and shows it, and takes both away; a blob goes up on its own.
func made() []string {
	must(0, client.CreateBlob(ctx, fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("of Go"))), bytes.NewBufferString("of Go")))
	last := ""
	request := api.CreateRequest{Model: "of-go", From: small, System: "Be brief.", Parameters: map[string]any{"top_k": 3}}
	must(0, client.Create(ctx, &request, func(part api.ProgressResponse) error {
		last = part.Status
		return nil
	}))
	must(0, client.Copy(ctx, &api.CopyRequest{Source: "of-go", Destination: "of-go:two"}))
	system := must(client.Show(ctx, &api.ShowRequest{Model: "of-go:two"})).System
	for _, name := range []string{"of-go", "of-go:two"} {
		must(0, client.Delete(ctx, &api.DeleteRequest{Model: name}))
	}
	return []string{last, system}
}

func refused() []any {
	var of api.StatusError
	request := ask("nobody", nil)
	if err := client.Chat(ctx, &request, func(api.ChatResponse) error { return nil }); !errors.As(err, &of) {
		panic(err)
	}
	return []any{of.StatusCode, of.ErrorMessage}
}

func main() {
	client = api.NewClient(must(url.Parse(os.Args[1])), http.DefaultClient)
	must(0, client.Heartbeat(ctx))
	told := must(json.Marshal(map[string]any{
		"streams": streams(), "calls": calls(whole), "streamed_calls": calls(nil), "thinking": thinking(),
		"animal": isAnimal(), "sees": prompted(red()) > prompted()+4, "embedded": embedded(), "listed": listed(),
		"made": made(), "refused": refused(), "version": must(client.Version(ctx)) != "",
	}))
	fmt.Println(string(told))
}
