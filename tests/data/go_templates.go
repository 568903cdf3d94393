// Runs the cases of go_templates.json through Go's own text/template and writes the file anew with what came out:
//
//	go run tests/data/go_templates.go tests/data/go_templates.json
//
// To add a case, add {"template": …, "with": …} to the file and run this. "with" names one of the file's values: plain
// data, or a request (it has "messages"), which is then shown to the template as modelfile-templates §2.8 says.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type testCase struct {
	Template string  `json:"template"`
	With     string  `json:"with"`
	Out      *string `json:"out,omitempty"`
	Error    string  `json:"error,omitempty"`
}

type testFile struct {
	About  string                     `json:"about"`
	Values map[string]json.RawMessage `json:"values"`
	Cases  []testCase                 `json:"cases"`
}

// What a template sees. The fields' names and order, and what prints as JSON, are the subject of §2.6 and §2.8.

type templateMessage struct {
	Role, Content, Thinking string
	Images                  []ImageData
	ToolCalls               []templateToolCall
	ToolName, ToolCallID    string
}

type ImageData []byte

type templateToolCall struct {
	ID       string
	Function templateToolCallFunction
}

type templateToolCallFunction struct {
	Index     int
	Name      string
	Arguments templateArgs
}

type templateArgs map[string]any

func (a templateArgs) String() string { return object(a, a == nil) }

type templateTools []templateTool

func (t templateTools) String() string { return text(t) }

type templateTool struct {
	Type     string               `json:"type"`
	Items    any                  `json:"items,omitempty"`
	Function templateToolFunction `json:"function"`
}

func (t templateTool) String() string { return text(t) }

type templateToolFunction struct {
	Name        string                         `json:"name"`
	Description string                         `json:"description"`
	Parameters  templateToolFunctionParameters `json:"parameters"`
}

type templateToolFunctionParameters struct {
	Type       string             `json:"type"`
	Defs       any                `json:"$defs,omitempty"`
	Items      any                `json:"items,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties templateProperties `json:"properties"`
}

type templateProperties map[string]ToolProperty

func (p templateProperties) String() string { return object(p, p == nil) }

type ToolProperty struct {
	AnyOf       []ToolProperty     `json:"anyOf,omitempty"`
	Type        PropertyType       `json:"type,omitempty"`
	Items       any                `json:"items,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	Properties  *ToolPropertiesMap `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
}

func (p ToolProperty) ToTypeScriptType() string {
	var names []string
	for _, alternative := range p.AnyOf {
		names = append(names, alternative.ToTypeScriptType())
	}
	if len(names) == 0 {
		for _, name := range p.Type {
			names = append(names, typeScript(name))
		}
	}
	if len(names) == 0 {
		return "any"
	}
	return strings.Join(names, " | ")
}

func typeScript(name string) string {
	switch name {
	case "string", "boolean", "null":
		return name
	case "number", "integer":
		return "number"
	case "array":
		return "any[]"
	case "object":
		return "Record<string, any>"
	}
	return "any"
}

type PropertyType []string

func (t *PropertyType) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = PropertyType{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

func (t PropertyType) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

func (t PropertyType) String() string {
	if len(t) < 2 {
		return strings.Join(t, "")
	}
	return "[" + strings.Join(t, " ") + "]"
}

// ToolPropertiesMap keeps the order of the request.
type ToolPropertiesMap struct {
	names []string
	all   map[string]ToolProperty
}

func (m *ToolPropertiesMap) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &m.all); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.Token()
	for decoder.More() {
		name, _ := decoder.Token()
		m.names = append(m.names, name.(string))
		var skipped json.RawMessage
		decoder.Decode(&skipped)
	}
	return nil
}

func (m *ToolPropertiesMap) MarshalJSON() ([]byte, error) {
	parts := []string{}
	for _, name := range m.names {
		parts = append(parts, text(name)+":"+text(m.all[name]))
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

func text(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func object(value any, isNil bool) string {
	if isNil {
		return "{}"
	}
	return text(value)
}

type request struct {
	Messages []*struct {
		Role, Content, Thinking string
		Images                  []ImageData
		ToolCalls               []templateToolCall `json:"tool_calls"`
		ToolName                string             `json:"tool_name"`
		ToolCallID              string             `json:"tool_call_id"`
	}
	Tools templateTools
	Think bool
}

func values(raw json.RawMessage) map[string]any {
	data := map[string]any{}
	must(json.Unmarshal(raw, &data))
	if _, chat := data["messages"]; !chat {
		return data
	}
	var asked request
	must(json.Unmarshal(raw, &asked))
	var system []string
	var messages []*templateMessage
	for _, m := range asked.Messages {
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		messages = append(messages, &templateMessage{
			m.Role, m.Content, m.Thinking, m.Images, m.ToolCalls, m.ToolName, m.ToolCallID,
		})
	}
	level := ""
	if asked.Think {
		level = "medium"
	}
	_, set := data["think"]
	return map[string]any{
		"System": strings.Join(system, "\n\n"), "Messages": messages, "Tools": asked.Tools, "Response": "",
		"Think": asked.Think, "ThinkLevel": level, "IsThinkSet": set,
	}
}

var functions = template.FuncMap{
	"json":          func(v any) string { return text(v) },
	"currentDate":   func(...string) string { return "2026-03-01" },
	"yesterdayDate": func(...string) string { return "2026-02-28" },
	"toTypeScriptType": func(v any) string {
		if property, ok := v.(ToolProperty); ok {
			return property.ToTypeScriptType()
		}
		return "any"
	},
}

// The types are named as the reference's error texts name them.
var names = strings.NewReplacer(
	"main.Tool", "api.Tool", "main.Property", "api.Property", "main.Image", "api.Image", "main.", "template.")

func run(source string, data map[string]any) (string, error) {
	parsed, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(source)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = parsed.Execute(&out, data)
	return out.String(), err
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	data, err := os.ReadFile(os.Args[1])
	must(err)
	var file testFile
	must(json.Unmarshal(data, &file))
	for i := range file.Cases {
		c := &file.Cases[i]
		out, err := run(c.Template, values(file.Values[c.With]))
		out = names.Replace(out)
		c.Out, c.Error = &out, ""
		if err != nil {
			c.Out, c.Error = nil, names.Replace(err.Error())
		}
	}
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	must(encoder.Encode(file))
	must(os.WriteFile(os.Args[1], written.Bytes(), 0o644))
}
