package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// api is an api-2.json file, as far as the generator reads it.
type api struct {
	Metadata struct {
		APIVersion   string `json:"apiVersion"`
		Protocol     string `json:"protocol"`
		XMLNamespace string `json:"xmlNamespace"`
		FullName     string `json:"serviceFullName"`
	} `json:"metadata"`
	Operations map[string]operation `json:"operations"`
	Shapes     map[string]*shape    `json:"shapes"`
}

type operation struct {
	Input  *ref  `json:"input"`
	Output *ref  `json:"output"`
	Errors []ref `json:"errors"`
}

// ref is a use of a shape.
type ref struct {
	Shape         string `json:"shape"`
	LocationName  string `json:"locationName"`
	QueryName     string `json:"queryName"`
	ResultWrapper string `json:"resultWrapper"`
}

type shape struct {
	Type      string         `json:"type"`
	Members   map[string]ref `json:"members"`
	Required  []string       `json:"required"`
	Member    *ref           `json:"member"`
	Key       *ref           `json:"key"`
	Value     *ref           `json:"value"`
	Flattened bool           `json:"flattened"`
	Min       *float64       `json:"min"`
	Max       *float64       `json:"max"`
	Pattern   string         `json:"pattern"`
	Enum      []string       `json:"enum"`
	Sensitive bool           `json:"sensitive"`
	Exception bool           `json:"exception"`
	Error     struct {
		Code       string `json:"code"`
		HTTPStatus int    `json:"httpStatusCode"`
	} `json:"error"`
}

// load reads a model and refuses what the generator would otherwise get wrong without a word.
func load(path string) (*api, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	a := &api{}
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("parse model %s: %w", path, err)
	}
	if p := a.Metadata.Protocol; p != "query" && p != "ec2" {
		return nil, fmt.Errorf("model %s: protocol %q is not supported", path, p)
	}
	for name, s := range a.Shapes {
		if s.Flattened {
			return nil, fmt.Errorf("model %s: shape %s: flattened lists are not supported", path, name)
		}
	}
	return a, nil
}
