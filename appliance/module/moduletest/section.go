package moduletest

import "fmt"

// Section is a part of the configuration that holds Value, already decoded. It implements
// module.Section; whoever decodes it gives it a *T.
type Section[T any] struct{ Value T }

// Present implements module.Section.
func (s Section[T]) Present() bool { return true }

// Decode implements module.Section.
func (s Section[T]) Decode(v any) error { *v.(*T) = s.Value; return nil }

// Fault implements module.Section: "KEY: MSG".
func (s Section[T]) Fault(key, msg, _ string) error { return fmt.Errorf("%s: %s", key, msg) }
