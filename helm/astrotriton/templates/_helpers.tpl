{{/* Name of the release's objects; a component's is appended. Room is left for "-triton-all". */}}
{{- define "astrotriton.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains "astrotriton" $name) }}{{ $name = printf "%s-astrotriton" $name }}{{ end }}
{{- $name | trunc 45 | trimSuffix "-" }}
{{- end }}

{{/* Labels that select the pods of a component: (dict "root" $ "component" "gateway"). */}}
{{- define "astrotriton.selector" -}}
app.kubernetes.io/name: astrotriton
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "astrotriton.labels" -}}
{{ include "astrotriton.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* An image by its digest where one is given: (dict "root" $ "image" .Values.triton.image). */}}
{{- define "astrotriton.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion }}
{{- .image.repository }}:{{ $tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What every pod has: no token, no root, no shared namespace. Takes the root. */}}
{{- define "astrotriton.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.podSecurity.user }}
  runAsGroup: {{ .Values.podSecurity.user }}
  fsGroup: {{ .Values.podSecurity.user }}
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What every container has; /tmp is the one place that it may write to. */}}
{{- define "astrotriton.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Pods of a component keep away from each other: (dict "root" $ "component" "gateway"). */}}
{{- define "astrotriton.spread" -}}
{{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "astrotriton.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{- define "astrotriton.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every Triton is started with; the comments stay behind. */}}
{{- define "astrotriton.flags" -}}
{{- range splitList "\n" (.Files.Get "files/server.flags") }}
{{- if hasPrefix "--" . }}
- {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "astrotriton.tritonResources" -}}
{{- $resources := deepCopy .Values.triton.resources }}
{{- if .Values.enable_gpu }}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (int .Values.triton.gpus)) $resources.limits) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{- define "astrotriton.profile" -}}
{{- .Values.model.profile | default (ternary "gpu" "cpu" .Values.enable_gpu) }}
{{- end }}

{{/* Whether there is a worker: it has something to do, and an image. */}}
{{- define "astrotriton.hasWorker" -}}
{{- if and .Values.worker.image.repository (or .Values.gateway.settings.report_url .Values.mlflow.trackingUri) }}true{{ end }}
{{- end }}

{{/* Where a version is in a pod that fetched it. */}}
{{- define "astrotriton.fetched" -}}/models{{- end }}

{{/* The model repository as the gateway and the export name it. */}}
{{- define "astrotriton.repository" -}}
{{- ternary .Values.repository.location (include "astrotriton.fetched" .) (eq .Values.repository.mode "s3") }}
{{- end }}

{{/* The same as Triton names it: another store than AWS's is a part of the address. */}}
{{- define "astrotriton.tritonRepository" -}}
{{- $repository := include "astrotriton.repository" . }}
{{- if and (hasPrefix "s3://" $repository) .Values.s3.endpoint }}
{{- $url := urlParse .Values.s3.endpoint }}
{{- $port := ternary "" (ternary ":443" ":80" (eq $url.scheme "https")) (contains ":" (trimPrefix "[" $url.host)) }}
{{- $repository = printf "s3://%s://%s%s/%s" $url.scheme $url.host $port (trimPrefix "s3://" $repository) }}
{{- end }}
{{- $repository }}
{{- end }}

{{/* Credentials and place of the S3 store, as every SDK reads them. */}}
{{- define "astrotriton.s3" -}}
- name: AWS_DEFAULT_REGION
  value: {{ .Values.s3.region | quote }}
{{- with .Values.s3.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- if .Values.s3.existingSecret }}
{{- range tuple "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $.Values.s3.existingSecret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Environment variable from a secret: (dict "name" NAME "secret" SECRET "key" KEY). */}}
{{- define "astrotriton.secret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}

{{/* MLflow's credentials, where it asks for any. */}}
{{- define "astrotriton.mlflow" -}}
{{- if .Values.mlflow.existingSecret }}
{{- range tuple "MLFLOW_TRACKING_USERNAME" "MLFLOW_TRACKING_PASSWORD" }}
{{ include "astrotriton.secret" (dict "name" . "secret" $.Values.mlflow.existingSecret "key" .) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "astrotriton.databaseUrl" -}}
{{- $secret := .Values.postgresql.existingSecret }}
{{- $key := .Values.postgresql.key }}
{{- if .Values.postgresql.trial.enabled }}
{{- $secret = printf "%s-postgresql-app" (include "astrotriton.name" .) }}
{{- $key = "uri" }}
{{- end }}
{{- include "astrotriton.secret" (dict "name" "ASTROTRITON_DATABASE_URL" "secret" $secret "key" $key) }}
{{- end }}

{{/* The init container that gives an empty repository its prefix: a Triton that finds none when it
starts loads nothing until it is started again. */}}
{{- define "astrotriton.prepare" -}}
- name: prepare-repository
  image: {{ include "astrotriton.image" (dict "root" . "image" .Values.gateway.image) }}
  imagePullPolicy: {{ .Values.gateway.image.pullPolicy }}
  {{- include "astrotriton.container" . | nindent 2 }}
  args: [prepare-repository, {{ .Values.repository.location | quote }}]
  env:
    {{- include "astrotriton.s3" . | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {memory: 512Mi}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* The init container that fetches the pinned versions, and checks their digests. */}}
{{- define "astrotriton.fetch" -}}
- name: fetch-model
  image: {{ include "astrotriton.image" (dict "root" . "image" .Values.gateway.image) }}
  imagePullPolicy: {{ .Values.gateway.image.pullPolicy }}
  {{- include "astrotriton.container" . | nindent 2 }}
  args:
    - fetch-model
    - {{ .Values.repository.location }}
    - {{ .Values.model.name }}
    {{- range .Values.repository.versions }}
    - --pin={{ .version | int }}@{{ .digest }}
    {{- end }}
    - --to={{ include "astrotriton.fetched" . }}
  env:
    {{- include "astrotriton.s3" . | nindent 4 }}
  resources:
    requests: {cpu: 100m, memory: 256Mi}
    limits: {memory: 2Gi}
  volumeMounts:
    - {name: models, mountPath: {{ include "astrotriton.fetched" . }}}
    - {name: tmp, mountPath: /tmp}
{{- end }}
