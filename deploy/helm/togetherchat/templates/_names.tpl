{{/* Labels that select the pods of this release. */}}
{{- define "togetherchat.selector" -}}
app.kubernetes.io/name: togetherchat
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "togetherchat.labels" -}}
{{ include "togetherchat.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The port of an address such as [::]:50051: a port is defined once, in the settings. */}}
{{- define "togetherchat.port" -}}
{{ splitList ":" . | last }}
{{- end }}

{{/* The settings file: all settings except those that the Deployment passes as flags. */}}
{{- define "togetherchat.settings" -}}
{{ omit . "grpc_listen" "http_listen" "health_listen" "admin_listen" "log_format" "workers" | toToml }}
{{- end }}

{{/* The appProtocol of a port for meshes, which cannot parse the protocol inside TLS. */}}
{{- define "togetherchat.protocol" -}}
{{ if (first .).Values.tls.secretName }}https{{ else }}{{ last . }}{{ end }}
{{- end }}
