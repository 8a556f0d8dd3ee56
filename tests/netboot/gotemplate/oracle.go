// Go's own text/template as a filter: a JSON line {name, text, data} in, a JSON line {out, err} out.
//
// Text and output are base64, because they may hold bytes that are no UTF-8. Data are tagged, so that types survive:
// ["int", 1], ["list", [...]], ["smap", {...}]; `node` builds the struct that the test's Python record imitates.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/template"
)

type Dev struct {
	Name string
	Mtu  int
	On   bool
}

type Kernel struct {
	Version string
	Args    []string
}

func (d *Dev) String() string { return "dev " + d.Name }

func (k *Kernel) Line() string   { return strings.Join(k.Args, " ") }
func (k *Kernel) String() string { return "kernel " + k.Version }

type Node struct {
	Id     string
	Cpus   int
	Load   float64
	Up     bool
	Tags   map[string]string
	Devs   map[string]*Dev
	Roles  []string
	Kernel *Kernel
	Any    any
	Fn     func(string) string
}

func (n *Node) String() string                    { return "node(" + n.Id + ")" }
func (n *Node) Hello(who string) string           { return n.Id + " greets " + who }
func (n *Node) Name() string                      { return n.Id }
func (n *Node) Sum(a, b int) int                  { return n.Cpus + a + b }
func (n *Node) Join(s string, x ...string) string { return strings.Join(x, s) }
func (n *Node) Bad() (string, error)              { return "", errors.New("bad node " + n.Id) }

func node(fields map[string]json.RawMessage) any {
	text := func(name string) string { s, _ := value(fields[name]).(string); return s }
	n := &Node{Id: text("Id"), Any: value(fields["Any"]), Fn: strings.ToUpper}
	n.Cpus, _ = value(fields["Cpus"]).(int)
	n.Load, _ = value(fields["Load"]).(float64)
	n.Up, _ = value(fields["Up"]).(bool)
	n.Tags, _ = value(fields["Tags"]).(map[string]string)
	n.Roles, _ = value(fields["Roles"]).([]string)
	n.Devs = map[string]*Dev{}
	for i, name := range n.Roles {
		n.Devs[name] = &Dev{Name: name, Mtu: 1500 + i, On: i%2 == 0}
	}
	if version := text("Kernel"); version != "" {
		n.Kernel = &Kernel{Version: version, Args: []string{"quiet", "a=b"}}
	}
	return n
}

func value(raw json.RawMessage) any {
	var pair []json.RawMessage
	if raw == nil || json.Unmarshal(raw, &pair) != nil {
		return nil
	}
	var tag string
	must(json.Unmarshal(pair[0], &tag))
	switch tag {
	case "bool":
		return parse[bool](pair[1])
	case "int":
		n, err := strconv.Atoi(parse[string](pair[1]))
		must(err)
		return n
	case "float":
		f, err := strconv.ParseFloat(parse[string](pair[1]), 64)
		must(err)
		return f
	case "string":
		return string(parse[[]byte](pair[1]))
	case "list":
		made := []any{}
		for _, item := range parse[[]json.RawMessage](pair[1]) {
			made = append(made, value(item))
		}
		return made
	case "strings":
		return parse[[]string](pair[1])
	case "map":
		made := map[string]any{}
		for key, item := range parse[map[string]json.RawMessage](pair[1]) {
			made[key] = value(item)
		}
		return made
	case "smap":
		return parse[map[string]string](pair[1])
	case "imap":
		return parse[map[string]int](pair[1])
	case "node":
		return node(parse[map[string]json.RawMessage](pair[1]))
	}
	return nil
}

func parse[T any](raw json.RawMessage) T {
	var made T
	must(json.Unmarshal(raw, &made))
	return made
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

var functions = template.FuncMap{
	"upper": strings.ToUpper,
	"add":   func(a, b int) int { return a + b },
	"half":  func(f float64) float64 { return f / 2 },
	"flip":  func(b bool) bool { return !b },
	"join":  func(sep string, parts ...string) string { return strings.Join(parts, sep) },
	"fail":  func(text string) (string, error) { return "", errors.New(text) },
	"list":  func(items ...any) []any { return append([]any{}, items...) },
	"pair":  func(key string, item any) map[string]any { return map[string]any{key: item} },
	"null":  func() any { return nil },
	"kind":  func(item any) string { return fmt.Sprintf("%T", item) },
}

type request struct {
	Name string
	Text []byte
	Data json.RawMessage
}

type response struct {
	Out []byte `json:"out"`
	Err string `json:"err"`
}

func run(r request) (answer response) {
	defer func() {
		if problem := recover(); problem != nil {
			answer = response{Err: fmt.Sprint("panic: ", problem)}
		}
	}()
	made, err := template.New(r.Name).Funcs(functions).Parse(string(r.Text))
	if err != nil {
		return response{Err: err.Error()}
	}
	var out bytes.Buffer
	if err := made.Execute(&out, value(r.Data)); err != nil {
		return response{Err: err.Error()}
	}
	return response{Out: out.Bytes()}
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	decoder, encoder := json.NewDecoder(lines), json.NewEncoder(out)
	for decoder.More() {
		var r request
		must(decoder.Decode(&r))
		must(encoder.Encode(run(r)))
	}
}
