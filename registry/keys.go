package registry

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

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

// checkKeys finds the keys of a configuration file that Distribution would
// silently ignore, and values of the wrong type, of which it names the line
// and not the key.
func checkKeys(text []byte) error {
	var m map[any]any
	if err := yaml.UnmarshalStrict(text, &m); err != nil {
		return errors.New(strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " "))
	}
	if len(m) == 0 {
		return errors.New("the file is empty; at least version: 0.1 and storage.elliptics are needed")
	}
	k := keyChecker{}
	switch version, ok := m["version"]; {
	case !ok:
		return errors.New("version: missing; expected version: 0.1")
	case fmt.Sprint(version) != string(configuration.CurrentVersion):
		return fmt.Errorf("version: bad value %q; expected %s", fmt.Sprint(version), configuration.CurrentVersion)
	}
	k.fields(reflect.TypeFor[configuration.Configuration](), "", m)
	return errors.Join(k.errs...)
}

type keyChecker struct {
	errs []error
}

func (k *keyChecker) unknown(path, name string, known []string) {
	k.errs = append(k.errs, fmt.Errorf("%s%s: unknown key%s", path, name, suggest.DidYouMean(name, known)))
}

// bad names a key and what was expected. The value is shown unless it may be,
// or hold, a secret.
func (k *keyChecker) bad(key string, value any, want string) {
	shown := ""
	switch value.(type) {
	case map[any]any, []any:
	default:
		if !strings.HasSuffix(key, "secret") && !strings.HasSuffix(key, "password") {
			shown = fmt.Sprintf(" %q", fmt.Sprint(value))
		}
	}
	k.errs = append(k.errs, fmt.Errorf("%s: bad value%s; expected %s", key, shown, want))
}

// fields compares a map of the file with the type that it is read into.
func (k *keyChecker) fields(t reflect.Type, path string, m map[any]any) {
	fields := make(map[string]reflect.Type)
	yamlFields(t, fields)
	known := sortedNames(fields)
	for _, key := range sorted(m) {
		name := fmt.Sprint(key)
		if path+name == "storage" {
			k.storage(m[key])
		} else if ft, ok := fields[name]; ok {
			k.value(ft, path+name, m[key])
		} else {
			k.unknown(path, name, known)
		}
	}
}

// value compares a value of the file with the type that it is read into.
func (k *keyChecker) value(t reflect.Type, key string, value any) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil {
		return // as if it were not there
	}
	below, isMap := value.(map[any]any)
	list, isList := value.([]any)
	switch {
	case t.Kind() == reflect.Struct && isMap:
		k.fields(t, key+".", below)
	case t.Kind() == reflect.Struct:
		fields := make(map[string]reflect.Type)
		yamlFields(t, fields)
		k.bad(key, value, "the keys "+strings.Join(sortedNames(fields), ", "))
	case t.Kind() == reflect.Slice && isList && holdsStructs(t.Elem()):
		for i, e := range list {
			k.value(t.Elem(), fmt.Sprintf("%s[%d]", key, i), e)
		}
	case t.Kind() == reflect.Map && isMap && holdsStructs(t.Elem()):
		for _, name := range sorted(below) {
			k.value(t.Elem(), fmt.Sprintf("%s.%v", key, name), below[name])
		}
	default:
		text, err := yaml.Marshal(value)
		if err == nil {
			err = yaml.UnmarshalStrict(text, reflect.New(t).Interface())
		}
		if err != nil {
			k.bad(key, value, wanted(t))
		}
	}
}

func holdsStructs(t reflect.Type) bool {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// wanted says what a good value of a type is.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration, as in 30s"
	case reflect.TypeFor[configuration.Loglevel]():
		return "error, warn, info or debug"
	case reflect.TypeFor[configuration.Platforms]():
		return "all, none or list"
	case reflect.TypeFor[configuration.ClientAuth]():
		return strings.Join(clientAuths(), ", ")
	case reflect.TypeFor[configuration.Auth]():
		return "one of htpasswd and token, with its keys below it"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list, as in [a, b]"
	case reflect.Map:
		if t.Elem().Kind() == reflect.Slice {
			return "names with a list each, as in X-Name: [value]"
		}
		return "names and values"
	}
	return t.String()
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

func (k *keyChecker) storage(v any) {
	m, ok := v.(map[any]any)
	if !ok {
		k.bad("storage", v, "storage: {"+driver.Name+": {...}}")
		return
	}
	_, own := m[driver.Name]
	others := 0
	for _, key := range sorted(m) {
		section := fmt.Sprint(key)
		known, beside := besideDriver[section]
		below, isMap := m[key].(map[any]any)
		switch {
		case section == driver.Name:
			// Its keys are the driver's to check.
			if !isMap && m[key] != nil {
				k.bad("storage."+section, m[key], "the keys nodes or embedded, and others, below it")
			}
		case !beside:
			if others++; own {
				k.unknown("storage.", section, append(sortedNames(besideDriver), driver.Name))
			}
		case !isMap && m[key] != nil:
			k.bad("storage."+section, m[key], "the keys "+strings.Join(known, ", "))
		default:
			for _, name := range sorted(below) {
				if !slices.Contains(known, fmt.Sprint(name)) {
					k.unknown("storage."+section+".", fmt.Sprint(name), known)
				}
			}
		}
	}
	if !own && others == 0 {
		k.errs = append(k.errs, fmt.Errorf("storage.%s: missing", driver.Name))
	}
}

func sorted(m map[any]any) []any {
	keys := make([]any, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return keys
}
