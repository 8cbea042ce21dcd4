package registry

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	"go.yaml.in/yaml/v2"

	"github.com/elliptics-registry/elliptics-registry/driver"
	"github.com/elliptics-registry/elliptics-registry/internal/suggest"
)

// besideDriver are the sections that Distribution knows below storage beside
// the driver's own, with their keys.
var besideDriver = map[string][]string{
	"cache":       {"blobdescriptor", "blobdescriptorsize", "layerinfo"},
	"delete":      {"enabled"},
	"maintenance": {"readonly", "uploadpurging"},
	"redirect":    {"disable"},
	"tag":         {"concurrencylimit"},
}

// unknownKeys finds keys of a configuration file that Distribution would
// silently ignore.
func unknownKeys(text []byte) error {
	var m map[any]any
	if err := yaml.Unmarshal(text, &m); err != nil {
		return errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: "), "\n", " "))
	}
	if len(m) == 0 {
		return errors.New("the file is empty; at least version: 0.1 and storage.elliptics are needed")
	}
	if _, ok := m["version"]; !ok {
		return errors.New("version: missing; expected version: 0.1")
	}
	var errs []error
	findUnknown(reflect.TypeFor[configuration.Configuration](), "", m, &errs)
	return errors.Join(errs...)
}

// findUnknown compares a map of the file with the type that it is read into.
func findUnknown(t reflect.Type, path string, m map[any]any, errs *[]error) {
	fields := make(map[string]reflect.Type)
	yamlFields(t, fields)
	known := make([]string, 0, len(fields))
	for name := range fields {
		known = append(known, name)
	}
	for _, key := range sorted(m) {
		name, value := fmt.Sprint(key), m[key]
		full := path + name
		if full == "storage" {
			unknownStorage(value, errs)
			continue
		}
		ft, ok := fields[name]
		if !ok {
			*errs = append(*errs, fmt.Errorf("%s: unknown key%s", full, suggest.DidYouMean(name, known)))
			continue
		}
		below, isMap := value.(map[any]any)
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if isMap && ft.Kind() == reflect.Struct {
			findUnknown(ft, full+".", below, errs)
		}
	}
}

// yamlFields are the keys of a struct, with those of the structs that are
// inlined into it.
func yamlFields(t reflect.Type, fields map[string]reflect.Type) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(options, "inline"):
			yamlFields(f.Type, fields)
		case name == "":
			fields[strings.ToLower(f.Name)] = f.Type
		default:
			fields[name] = f.Type
		}
	}
}

func unknownStorage(v any, errs *[]error) {
	m, ok := v.(map[any]any)
	if !ok {
		*errs = append(*errs, fmt.Errorf("storage: bad value %q; expected storage: {%s: {...}}", fmt.Sprint(v), driver.Name))
		return
	}
	others := 0
	for _, key := range sorted(m) {
		section := fmt.Sprint(key)
		known, beside := besideDriver[section]
		if section == driver.Name {
			continue // its keys are the driver's to check
		}
		if !beside {
			others++
			if _, ok := m[driver.Name]; ok {
				*errs = append(*errs, fmt.Errorf("storage.%s: unknown key%s", section, suggest.DidYouMean(section, storageSections())))
			}
			continue
		}
		below, _ := m[key].(map[any]any)
		for _, k := range sorted(below) {
			if name := fmt.Sprint(k); !slices.Contains(known, name) {
				*errs = append(*errs, fmt.Errorf("storage.%s.%s: unknown key%s", section, name, suggest.DidYouMean(name, known)))
			}
		}
	}
	if _, ok := m[driver.Name]; !ok && others == 0 {
		*errs = append(*errs, fmt.Errorf("storage.%s: missing", driver.Name))
	}
}

func storageSections() []string {
	list := []string{driver.Name}
	for s := range besideDriver {
		list = append(list, s)
	}
	return list
}

func sorted(m map[any]any) []any {
	keys := make([]any, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return keys
}
