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

{{/* The port of an address such as 0.0.0.0:50051, so that settings alone say it. */}}
{{- define "togetherchat.port" -}}
{{ splitList ":" . | last }}
{{- end }}

{{/* The file of settings: all but those that the Deployment says in flags. */}}
{{- define "togetherchat.settings" -}}
{{ omit . "grpc_listen" "http_listen" "health_listen" "admin_listen" "log_format" "workers" | toToml }}
{{- end }}

{{/* What a port speaks, to meshes: with TLS they cannot see into it. */}}
{{- define "togetherchat.protocol" -}}
{{ if (first .).Values.tls.secretName }}https{{ else }}{{ last . }}{{ end }}
{{- end }}
