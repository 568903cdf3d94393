// What the official Go client finds at a server with API keys: `keyed URL SECRET`. It takes no key from its environment:
// whoever uses it gives it an HTTP client that sends the header.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/ollama/ollama/api"
)

type bearer string

func (secret bearer) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+string(secret))
	return http.DefaultTransport.RoundTrip(request)
}

func status(err error) int {
	var refused api.StatusError
	var unauthorized api.AuthorizationError
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &unauthorized):
		return unauthorized.StatusCode
	case errors.As(err, &refused):
		return refused.StatusCode
	}
	panic(err)
}

func main() {
	base, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	client := api.NewClient(base, &http.Client{Transport: bearer(os.Args[2])})
	ctx := context.Background()
	said := ""
	_, list := client.List(ctx)
	chat := client.Chat(ctx, &api.ChatRequest{
		Model:    "m",
		Messages: []api.Message{{Role: "user", Content: "Hi"}},
	}, func(part api.ChatResponse) error {
		said += part.Message.Content
		return nil
	})
	_, show := client.Show(ctx, &api.ShowRequest{Model: "m"})
	copied := client.Copy(ctx, &api.CopyRequest{Source: "m", Destination: "go-copy"})
	told, _ := json.Marshal(map[string]any{
		"list": status(list), "chat": status(chat), "said": said, "show": status(show), "copy": status(copied),
	})
	fmt.Println(string(told))
}
